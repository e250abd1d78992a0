// Two users chat, edit, delete and react by rooms of the reference client, each at a gateway of their own, while whoever started this
// breaks things.
//
//   node room-through-faults.mjs URL_A URL_B CONVERSATION USER_A USER_B FAULT...
//
// Prints `break FAULT` for each fault, goes on, and waits for a line on stdin that says that it is mended. Both rooms must end as the
// history has it. Ends with a line of JSON; exits with 1 when something is shown wrong, or was shown twice meanwhile.
import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';

import WebSocket from 'ws';

import { ArcYouClient } from '../../web/arcyou-client.js';
import { ArcYouRoom } from '../../web/arcyou-room.js';

const [urlA, urlB, conversation, userA, userB, ...faults] = process.argv.slice(2);
if (faults.length === 0) {
  console.error('usage: room-through-faults.mjs URL_A URL_B CONVERSATION USER_A USER_B FAULT...');
  process.exit(2);
}
/** Rounds of both users before, at most during, and after each fault. */
const [BEFORE, DURING, AFTER] = [10, 100, 15];
const REACTIONS = ['👍', '🎉', '😄'];
/** What somebody else did meanwhile may refuse. */
const EXPECTED = ['message_deleted'];
const CUT_EVERY = 40;
/** Texts differ from those of another run in the same conversation. */
const RUN = Date.now();
let cutting = true;

const mended = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const pick = (list) => list[Math.floor(Math.random() * list.length)];
const outline = ({ id, n, seq, version, body, deleted_at, reactions = [] }) => {
  const counts = reactions.map(({ reaction, count }) => `${reaction} ${count}`).sort();
  return { id, n, seq, version, text: body?.text, deleted_at, counts };
};

function fail(error) {
  console.error(error);
  process.exit(1);
}

/** A WebSocket that breaks now and then just when a change was acknowledged: the client cannot know that it was. */
function unreliable() {
  let acknowledged = 0;
  return class extends WebSocket {
    emit(name, data, ...rest) {
      const isAnswer = name === 'message' && ['send', 'edit', 'react', 'delete'].includes(JSON.parse(data).op);
      return cutting && isAnswer && ++acknowledged % CUT_EVERY === 0 ? this.terminate() : super.emit(name, data, ...rest);
    }
  };
}

class User {
  losses = [];
  changes = 0;
  #said = 0;

  constructor(url, id) {
    this.id = id;
    this.chat = new ArcYouClient(url, {
      token: () => id,
      WebSocket: unreliable(),
      backoff: { baseMs: 20, maxMs: 200 },
      onState: (state, why) => {
        if (state === 'waiting') this.losses.push(why.code);
        if (state === 'stopped' && why.code !== 1000) fail(new Error(`${why.code}: ${why.reason}`));
      },
    });
    this.room = new ArcYouRoom(this.chat, conversation, { pageSize: 100 });
    this.room.subscribe(() => this.#look());
  }

  /** Says something, and does something else at the same time. */
  async round() {
    const { room } = this;
    const shown = room.snapshot().messages.filter(({ state, deleted_at: at }) => state === 'stored' && !at);
    const own = shown.filter((message) => message.own);
    const text = () => ({ text: `${RUN} ${this.id} ${(this.#said += 1)}` });
    const done = [room.send(text())];
    const dice = Math.random();
    if (own.length > 0 && dice < 0.35) done.push(room.edit(pick(own.slice(-10)).id, text()));
    else if (own.length > 0 && dice < 0.4) done.push(room.delete(pick(own).id));
    else if (shown.length > 0) done.push(room.react(pick(shown.slice(-10)).id, pick(REACTIONS), { remove: Math.random() < 0.3 }));
    this.changes += done.length;
    await Promise.all(done.map((each) => each.catch((error) => EXPECTED.includes(error.code) || fail(error))));
  }

  /** Every snapshot: nothing twice, and everything in its place. */
  #look() {
    const { messages, status, error } = this.room.snapshot();
    if (status === 'lost') fail(error);
    const unsent = messages.find(({ state }) => state !== 'stored' && state !== 'sending');
    if (unsent) fail(unsent.error ?? new Error(unsent.state));
    const texts = messages.filter(({ body }) => body).map(({ body }) => body.text);
    const seqs = messages.filter(({ seq }) => seq !== null).map(({ seq }) => seq);
    if (new Set(texts).size < texts.length) fail(new Error(`shown twice: ${texts}`));
    if (seqs.some((seq, at) => seq <= seqs[at - 1])) fail(new Error(`out of order: ${seqs}`));
  }

  async truth() {
    const all = [];
    for (let more = true; more; ) {
      const page = await this.chat.history(conversation, { afterSeq: all.at(-1)?.seq ?? 0, limit: 200 });
      all.push(...page.messages);
      more = page.has_more;
    }
    return all.map(outline);
  }

  /** Until the room shows that: events may be under way. */
  async shows(truth) {
    while (this.room.snapshot().hasOlder) await this.room.loadOlder();
    const isSo = () => {
      const shown = this.room.snapshot().messages;
      return JSON.stringify(shown.map(outline)) === JSON.stringify(truth);
    };
    const late = setTimeout(() => {
      try {
        assert.deepEqual(this.room.snapshot().messages.map(outline), truth);
      } catch (error) {
        fail(error);
      }
    }, 20_000);
    await new Promise((resolve) => {
      const end = this.room.subscribe(() => isSo() && resolve());
      if (isSo()) resolve();
      this.ended = end;
    });
    this.ended();
    clearTimeout(late);
  }
}

const both = (what) => Promise.all([a, b].map(what));
const rounds = async (count) => {
  for (let round = 0; round < count; round += 1) await both((user) => user.round());
};

const a = new User(urlA, userA);
const b = new User(urlB, userB);
try {
  for (const fault of faults) {
    await rounds(BEFORE);
    cutting = false;
    console.log(`break ${fault}`);
    let over = false;
    const end = mended.next().then(() => (over = true));
    for (let round = 0; round < DURING && !over; round += 1) await rounds(1);
    await end;
    cutting = true;
    await rounds(AFTER);
  }
  cutting = false;
  const truth = await a.truth();
  await both((user) => user.shows(truth));
  assert.deepEqual(truth.map(({ n }) => n), truth.map((_, at) => at + 1));
  const edited = truth.filter(({ version }) => version > 1).length;
  console.log(JSON.stringify({ messages: truth.length, edited, changes: a.changes + b.changes, losses: [a.losses, b.losses] }));
  process.exit(0);
} catch (error) {
  fail(error);
}
