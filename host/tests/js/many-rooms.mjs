// A user in many conversations whose connection is cut: everything comes back in a few frames, and none of them is refused.
//
//   node many-rooms.mjs URL DIRECT_URL USER OTHER < CONVERSATIONS, one a line
//
// Then prints `cut` and waits for a line, while the link at URL carries nothing any more, says things meanwhile, prints `heal`, and
// checks what comes once the link was cut and is there again. Ends with a line of JSON.
import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';

import WebSocket from 'ws';

import { ArcYouClient } from '../../web/arcyou-client.js';

const [url, directUrl, user, other] = process.argv.slice(2);
if (!other) {
  console.error('usage: many-rooms.mjs URL DIRECT_URL USER OTHER < CONVERSATIONS');
  process.exit(2);
}
/** Conversations in which the other one speaks while the link is down, and after it. */
const [MISSED, LATER] = [50, 100];

/** What went over each connection, replies without the events. */
const connections = [];
class Watched extends WebSocket {
  #log = { sent: [], replies: [] };

  constructor(...args) {
    super(...args);
    connections.push(this.#log);
  }

  send(text, ...rest) {
    this.#log.sent.push(JSON.parse(text));
    super.send(text, ...rest);
  }

  emit(name, data, ...rest) {
    const frame = name === 'message' ? JSON.parse(data) : {};
    if (frame.op && frame.op !== 'event') this.#log.replies.push(frame);
    return super.emit(name, data, ...rest);
  }
}

const seen = new Map();
let waiting = () => {};
const fail = (error) => {
  console.error(error);
  process.exit(1);
};
const chat = new ArcYouClient(url, {
  token: () => user,
  WebSocket: Watched,
  backoff: { baseMs: 20, maxMs: 200 },
  onEvent: ({ conversation_id: id, message }) => {
    if (!message) return;
    seen.set(id, [...(seen.get(id) ?? []), `${message.seq} ${message.body.text}`]);
    waiting();
  },
  onLost: (_, error) => fail(error),
  onState: (state, why) => state === 'stopped' && why.code !== 1000 && fail(new Error(`${why.code}: ${why.reason}`)),
});
const speaker = new ArcYouClient(directUrl, { token: () => other, WebSocket, onLost: (_, error) => fail(error) });
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const line = async () => (await lines.next()).value;

try {
  const rooms = [];
  for (let room = await line(); room; room = await line()) rooms.push(room);
  await Promise.all(rooms.map((room) => chat.join(room)));
  console.log('cut');
  await line();
  const pending = chat.send(rooms[7], { text: 'pending' });
  await Promise.all(rooms.slice(-MISSED).map((room) => speaker.send(room, { text: 'missed' })));
  console.log('heal');
  assert.equal((await pending).status, 'stored');
  // From the second on, since attempts may fail before the link is there.
  const again = connections.slice(1).find(({ replies }) => replies.some(({ op }) => op === 'send'));
  assert.equal(again.replies.findIndex(({ op }) => op === 'send'), 1, 'answered before any join');
  await Promise.all(rooms.slice(0, LATER).map((room) => speaker.send(room, { text: 'later' })));
  while ([...seen.values()].flat().length < MISSED + LATER + 1) await new Promise((resolve) => (waiting = resolve));
  const expected = new Map(rooms.slice(0, LATER).map((room) => [room, ['1 later']]));
  expected.set(rooms[7], ['1 pending', '2 later']);
  for (const room of rooms.slice(-MISSED)) expected.set(room, ['1 missed']);
  assert.deepEqual(new Map([...seen].sort()), new Map([...expected].sort()), 'all, once, in order');
  const lists = again.sent.filter(({ op }) => op === 'join').map(({ conversations }) => conversations.map((entry) => entry.conversation_id));
  assert.deepEqual(lists.flat(), rooms);
  const answered = again.replies.filter(({ op }) => op === 'join').flatMap(({ conversations }) => conversations);
  assert.ok(answered.length === rooms.length && answered.every(({ success }) => success));
  const refused = connections.flatMap(({ replies }) => replies).filter(({ code }) => code === 'rate_limited');
  console.log(JSON.stringify({ frames: again.sent.length, lists: lists.length, refused: refused.length }));
  process.exit(0);
} catch (error) {
  fail(error);
}
