// What an application in TypeScript writes. It is compiled and never run.
import { ArcYouClient, ArcYouError } from '../../../web/arcyou-client.js';
import type { Message, OtherEvent, Sent, State, Why } from '../../../web/arcyou-client.js';

const shown: Message[] = [];
const others: OtherEvent[] = [];

const chat = new ArcYouClient(() => 'wss://chat.example.com/ws', {
  token: async () => 'token',
  onEvent: (event) => {
    if (event.event_id === undefined) shown.push(event.message);
    else others.push(event);
  },
  onState: (state: State, why?: Why) => console.log(state, why?.code, why?.retryInMs),
  onLost: (conversation, error) => console.log(conversation, error.code),
  onReset: (conversation) => console.log(conversation),
  backoff: { maxMs: 10_000 },
  WebSocket,
});

export async function talk(conversation: string): Promise<number | null> {
  const { last_seq: last } = await chat.join(conversation, { afterSeq: 41 });
  const { messages, has_more: more } = await chat.history(conversation, { beforeSeq: last, limit: 20 });
  try {
    const sent: Sent = await chat.send(conversation, { text: 'Hello!' }, { tempId: 't-1' });
    if (sent.status === 'stored') await chat.ack(conversation, sent.message_id);
    console.log(sent.body?.['text'], messages[0]?.body['text'], more, chat.userId, chat.lastSeq(conversation));
    return sent.seq;
  } catch (error) {
    if (error instanceof ArcYouError) console.log(error.code, error.idempotencyKey, error.reply?.['plugin']);
    throw error;
  } finally {
    await chat.leave(conversation);
    chat.reconnect();
    chat.close();
  }
}

// Mistakes that the types find.
// @ts-expect-error there is no way to connect without a token
new ArcYouClient('wss://chat.example.com/ws', {});
// @ts-expect-error a conversation has a name, not a number
void chat.join(1);
// @ts-expect-error a message that is held has no id
void chat.send('c', {}).then((sent) => sent.status === 'held' && sent.message_id.toFixed());
// @ts-expect-error there is no such state
export const wrong: State = 'offline';
