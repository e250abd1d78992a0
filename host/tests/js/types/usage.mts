// What an application in TypeScript writes. It is compiled and never run.
import { ArcYouClient, ArcYouError } from '../../../web/arcyou-client.js';
import type { Edited, Message, OtherEvent, Sent, State, Why } from '../../../web/arcyou-client.js';
import { ArcYouRoom } from '../../../web/arcyou-room.js';
import type { Item, Snapshot } from '../../../web/arcyou-room.js';

const shown: Message[] = [];
const counts = new Map<string, number>();
const others: OtherEvent[] = [];

const chat = new ArcYouClient(() => 'wss://chat.example.com/ws', {
  token: async () => 'token',
  onEvent: (event) => {
    if (event.event_id !== undefined) others.push(event);
    else if (event.message) shown.push(event.message);
    else if (!event.overtaken) counts.set(event.reaction, event.count);
  },
  onState: (state: State, why?: Why) => console.log(state, why?.code, why?.retryInMs),
  onLost: (conversation, error) => console.log(conversation, error.code),
  onReset: (conversation) => console.log(conversation),
  onMissed: (conversation) => console.log(conversation),
  backoff: { maxMs: 10_000 },
  WebSocket,
});

export async function talk(conversation: string): Promise<number | null> {
  const { last_seq: last } = await chat.join(conversation, { afterSeq: 41 });
  const { messages, has_more: more } = await chat.history(conversation, { beforeSeq: last, limit: 20 });
  try {
    const sent: Sent = await chat.send(conversation, { text: 'Hello!' }, { tempId: 't-1' });
    if (sent.status === 'stored') await chat.ack(conversation, sent.message_id);
    console.log(sent.body?.['text'], messages[0]?.body?.['text'], more, chat.userId, chat.lastSeq(conversation));
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

export async function change(conversation: string, message: Message): Promise<void> {
  const edited: Edited = await chat.edit(conversation, message.id, { text: 'Better.' }, { ifVersion: message.version });
  if (edited.status === 'stored') console.log(edited.version.toFixed());
  const { count, seq } = await chat.react(conversation, message.id, '👍', { remove: true });
  const { deleted_at: at } = await chat.delete(conversation, message.id);
  const { as_of_seq: asOf } = await chat.history(conversation, { aroundSeq: message.seq, thread: message.id });
  await chat.send(conversation, { text: 'Yes.' }, { replyTo: message.id });
  console.log(count, seq?.toFixed(), at, asOf, message.edited_at, chat.listen(conversation, { onLost: console.log })());
}

const room = new ArcYouRoom(chat, 'c', { pageSize: 20 });
/** As React's has it. */
declare function useSyncExternalStore<Kept>(subscribe: (changed: () => void) => () => void, snapshot: () => Kept): Kept;
export function draw(): string[] {
  const { messages, status, error, hasOlder }: Snapshot = useSyncExternalStore(room.subscribe, room.snapshot);
  if (hasOlder) void room.loadOlder();
  console.log(status, error?.code);
  return messages.map((item: Item) => {
    if (item.state === 'failed') void room.retry(item.key).then(() => room.dismiss(item.key));
    if (item.state === 'stored' && item.own) void room.edit(item.id, { text: '' }).then(() => room.delete(item.id));
    return `${item.key} ${item.body?.['text']} ${item.reactions[0]?.count}`;
  });
}
void room.send({ text: 'Hello!' }, { replyTo: 1 }).then((sent) => sent?.status);

// Mistakes that the types find.
// @ts-expect-error what is pending has no id
void room.snapshot().messages.map((item) => room.react(item.id, '👍'));
// @ts-expect-error a snapshot is for reading
room.snapshot().messages.pop();
// @ts-expect-error a deleted message has no body
void chat.history('c').then(({ messages }) => messages[0]!.body['text']);
// @ts-expect-error there is no way to connect without a token
new ArcYouClient('wss://chat.example.com/ws', {});
// @ts-expect-error a conversation has a name, not a number
void chat.join(1);
// @ts-expect-error a message that is held has no id
void chat.send('c', {}).then((sent) => sent.status === 'held' && sent.message_id.toFixed());
// @ts-expect-error there is no such state
export const wrong: State = 'offline';
