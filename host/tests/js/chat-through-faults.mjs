// Two users chat by the reference client, each at a gateway of their own, while whoever started this breaks things.
//
//   node chat-through-faults.mjs URL_A URL_B CONVERSATION USER_A USER_B FAULT...
//
// Prints `break FAULT` for each fault once the chat is in full swing, chats on, and waits for a line on stdin that says that it is
// mended. Checks what each client saw, and ends with a line of JSON; exits with 1 when something was lost, repeated or out of order.
import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';

import WebSocket from 'ws';

import { ArcYouClient } from '../../web/arcyou-client.js';

const [urlA, urlB, conversation, userA, userB, ...faults] = process.argv.slice(2);
if (faults.length === 0) {
  console.error('usage: chat-through-faults.mjs URL_A URL_B CONVERSATION USER_A USER_B FAULT...');
  process.exit(2);
}
/** Messages of each user before, at most during, and after each fault. */
const [BEFORE, DURING, AFTER] = [30, 300, 40];
const CUT_EVERY = 40;
/** Not while something is broken: that is to be felt by itself. */
let cutting = true;

const mended = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** A WebSocket that breaks now and then just when a message was acknowledged: the client cannot know that it was. */
function unreliable() {
  let acknowledged = 0;
  return class extends WebSocket {
    emit(name, data, ...rest) {
      const cut = cutting && name === 'message' && JSON.parse(data).op === 'send' && ++acknowledged % CUT_EVERY === 0;
      return cut ? this.terminate() : super.emit(name, data, ...rest);
    }
  };
}

class User {
  seen = [];
  replies = [];
  losses = [];
  #waiting = () => {};

  constructor(url, id) {
    this.id = id;
    this.chat = new ArcYouClient(url, {
      token: () => id,
      WebSocket: unreliable(),
      backoff: { baseMs: 20, maxMs: 200 },
      onEvent: (event) => {
        if (event.type === 'message.created') this.seen.push(event.message);
        this.#waiting();
      },
      onState: (state, why) => {
        if (state === 'waiting') this.losses.push(why.code);
        if (state === 'stopped' && why.code !== 1000) fail(new Error(`${why.code}: ${why.reason}`));
      },
      onLost: (_, error) => fail(error),
    });
  }

  /** Several at once: the client keeps them in order. */
  async say(count) {
    const sends = Array.from({ length: count }, () => {
      const key = `${this.id}-${this.replies.length}`;
      const reply = this.chat.send(conversation, { text: key }, { idempotencyKey: key });
      this.replies.push(reply);
      return reply;
    });
    await Promise.all(sends);
  }

  async saw(count) {
    while (this.seen.length < count) await new Promise((resolve) => (this.#waiting = resolve));
  }
}

function fail(error) {
  console.error(error);
  process.exit(1);
}

/** Both at once. */
const both = (what) => Promise.all([a, b].map(what));

async function goThrough(fault) {
  await both((user) => user.say(BEFORE));
  cutting = false;
  console.log(`break ${fault}`);
  let over = false;
  const end = mended.next().then(() => (over = true));
  for (let said = 0; said < DURING && !over; said += 5) await both((user) => user.say(5));
  await end;
  cutting = true;
  await both((user) => user.say(AFTER));
}

async function check() {
  const replies = (await both((user) => Promise.all(user.replies))).flat();
  const texts = [a, b].flatMap((user) => user.replies.map((_, number) => `${user.id}-${number}`));
  await both((user) => user.saw(replies.length));
  const expected = replies.map((reply, index) => ({ seq: reply.seq, id: reply.message_id, text: texts[index] }));
  expected.sort((one, other) => one.seq - other.seq);
  assert.deepEqual(expected.map(({ seq }) => seq), expected.map((_, index) => index + 1), 'acknowledged: each seq once');
  for (const user of [a, b]) {
    assert.deepEqual(user.seen.map(({ seq, id, body }) => ({ seq, id, text: body.text })), expected, 'seen: all, once, in order');
    const own = user.seen.filter((message) => message.sender_id === user.id).map((message) => message.body.text);
    assert.deepEqual(own, user.replies.map((_, number) => `${user.id}-${number}`), 'seen: in the order in which they were sent');
  }
  return { messages: replies.length, duplicates: replies.filter((reply) => reply.duplicate).length };
}

const a = new User(urlA, userA);
const b = new User(urlB, userB);
try {
  await both((user) => user.chat.join(conversation, { afterSeq: 0 }));
  for (const fault of faults) await goThrough(fault);
  console.log(JSON.stringify({ ...(await check()), losses: [a.losses, b.losses] }));
  await both((user) => user.chat.close());
  process.exit(0);
} catch (error) {
  fail(error);
}
