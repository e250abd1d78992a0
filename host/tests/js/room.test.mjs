// The room of the reference client, against a gateway in memory that does each step when it is told.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { ArcYouClient } from '../../web/arcyou-client.js';
import { ArcYouRoom } from '../../web/arcyou-room.js';
import { ALICE, BOB, ModelGateway, ROOM } from './model-gateway.mjs';

const ends = [];

afterEach(() => {
  for (const end of ends.splice(0).reverse()) end();
});

const tick = () => new Promise(setImmediate);

/** A clock that only the test moves. */
function heldClock(random = () => 0.5) {
  let [now, timers] = [0, []];
  return {
    now: () => now,
    random,
    set: (run, ms) => timers.push({ run, at: now + ms }) && timers.at(-1),
    clear: (timer) => (timers = timers.filter((other) => other !== timer)),
    advance(ms) {
      now += ms;
      for (const timer of timers.filter(({ at }) => at <= now)) {
        this.clear(timer);
        timer.run();
      }
    },
  };
}

/** Alice with a room, and Bob by the gateway itself. */
function scene({ gateway = new ModelGateway(), random, pageSize, maxMs = 1 } = {}) {
  const clock = heldClock(random);
  const patience = { requestTimeoutMs: 1e9, idleMs: 1e9, tokenTimeoutMs: 1e9 };
  const backoff = { baseMs: 1, maxMs };
  const chat = new ArcYouClient('ws://nowhere', { token: () => ALICE, WebSocket: gateway.WebSocket, clock, backoff, ...patience });
  ends.push(() => chat.close());
  const room = new ArcYouRoom(chat, ROOM, { pageSize });
  const seen = [];
  room.subscribe(() => seen.push(room.snapshot()));
  /** Until nothing moves. */
  const settle = async ({ relay = true } = {}) => {
    for (let still = 0; still < 4; ) {
      await tick();
      clock.advance(10);
      const moved = [gateway.serve(), relay && gateway.relay(), gateway.deliver()].some(Boolean);
      still = moved ? 0 : still + 1;
    }
  };
  return { gateway, clock, chat, room, seen, settle };
}

const texts = ({ messages }) => messages.map(({ body }) => body?.text ?? null);
const states = ({ messages }) => messages.map(({ state }) => state);
/** What a snapshot says of a message, as the gateway has it. */
const stripped = ({ key, state, own, ...message }) => message;
const agrees = (room, gateway) => assert.deepEqual(room.snapshot().messages.map(stripped), gateway.seenBy(ALICE));

/** Seen by whoever draws each snapshot: no text twice, everything in its place, and nothing changed that is frozen. */
function neverTwice(seen) {
  for (const { messages } of seen) {
    const all = messages.filter(({ body }) => body).map(({ body }) => body.text);
    assert.equal(new Set(all).size, all.length, `twice: ${all}`);
    const keys = messages.map(({ key }) => key);
    assert.equal(new Set(keys).size, keys.length, `keys twice: ${keys}`);
    const places = messages.filter(({ state }) => state === 'stored').map(({ seq }) => seq);
    assert.deepEqual(places, [...places].sort((a, b) => a - b));
    assert.ok(messages.slice(places.length).every(({ state }) => state !== 'stored'), 'pending at the end');
  }
}

test('it reads the newest page, and goes on from there', async () => {
  const gateway = new ModelGateway();
  for (const text of ['one', 'two', 'three']) gateway.create(BOB, { text });
  const { room, settle } = scene({ gateway, pageSize: 2 });
  assert.deepEqual([room.snapshot().status, room.snapshot().messages], ['loading', []]);
  await settle();
  gateway.create(BOB, { text: 'four' });
  await settle();
  const { status, hasOlder } = room.snapshot();
  assert.deepEqual([status, hasOlder, texts(room.snapshot())], ['ready', true, ['two', 'three', 'four']]);
  const older = room.loadOlder();
  assert.equal(room.snapshot().loadingOlder, true);
  assert.equal(room.loadOlder(), older, 'one at a time');
  await settle();
  await older;
  agrees(room, gateway);
  assert.deepEqual([room.snapshot().hasOlder, room.snapshot().loadingOlder], [false, false]);
});

test('edits, deletions and reactions of others are applied in their place', async () => {
  const { gateway, room, settle } = scene();
  await settle();
  const [one, two] = [gateway.create(BOB, { text: 'one' }), gateway.create(BOB, { text: 'two' }, 101)];
  gateway.react(BOB, one.id, '👍');
  gateway.react(ALICE, one.id, '👍');
  gateway.react(BOB, one.id, '🎉');
  gateway.edit(BOB, one.id, { text: 'ONE' });
  await settle();
  const [first, second] = room.snapshot().messages;
  assert.deepEqual([first.body.text, first.version, second.reply_to], ['ONE', 2, 101]);
  assert.deepEqual(first.reactions, [{ reaction: '👍', count: 2, own: true }, { reaction: '🎉', count: 1, own: false }]);
  gateway.react(BOB, one.id, '🎉', true);
  gateway.react(BOB, two.id, '👍');
  gateway.delete(BOB, two.id);
  await settle();
  agrees(room, gateway);
  const tombstone = room.snapshot().messages[1];
  assert.deepEqual([tombstone.body, tombstone.reactions, tombstone.deleted_at], [null, [], 'now']);
});

test('what is sent is shown at once, and becomes the message by the reply, and the event changes its name no more', async () => {
  const { gateway, room, seen, settle } = scene();
  await settle();
  const sending = room.send({ text: 'mask hello' }, { replyTo: 7 });
  const [draft] = room.snapshot().messages;
  assert.deepEqual([draft.state, draft.own, draft.reply_to, draft.id], ['sending', true, 7, null]);
  await settle({ relay: false });
  const [stored] = room.snapshot().messages;
  assert.deepEqual([stored.state, stored.key, stored.body.text, stored.seq, stored.n], ['stored', draft.key, 'hello', 1, undefined]);
  await settle();
  assert.equal((await sending).status, 'stored');
  assert.deepEqual([room.snapshot().messages[0].key, room.snapshot().messages[0].n], [draft.key, 1]);
  agrees(room, gateway);
  neverTwice(seen);
});

test('a send whose answer was lost is not shown twice when its event comes first', async () => {
  const { gateway, clock, room, seen, settle } = scene();
  await settle();
  const sending = room.send({ text: 'hello' });
  const { key } = room.snapshot().messages[0];
  gateway.serve();
  gateway.cut();
  // The repeated send is put off, so the join comes before its answer.
  gateway.refusals.send = [{ code: 'unavailable', error: 'no', retry_after_ms: 5000 }];
  for (let step = 0; step < 20; step += 1) {
    await tick();
    clock.advance(1);
    gateway.serve();
    gateway.relay();
    gateway.deliver();
  }
  assert.deepEqual([gateway.sockets.length, states(room.snapshot())], [2, ['sending']]);
  assert.equal(gateway.socket.outbox.length + gateway.socket.inbox.length, 0);
  gateway.create(BOB, { text: 'from Bob' });
  clock.advance(10_000);
  await settle();
  assert.equal((await sending).duplicate, true);
  assert.deepEqual(room.snapshot().messages.map((item) => item.key === key), [true, false]);
  agrees(room, gateway);
  neverTwice(seen);
});

test('an own message from another device is shown once it is sure that it is one', async () => {
  const { gateway, room, settle } = scene();
  await settle();
  const sending = room.send({ text: 'here' });
  gateway.create(ALICE, { text: 'elsewhere' });
  gateway.relay();
  gateway.deliver();
  assert.deepEqual(texts(room.snapshot()), ['here']);
  await settle();
  await sending;
  assert.deepEqual(texts(room.snapshot()), ['elsewhere', 'here']);
  gateway.create(ALICE, { text: 'again elsewhere' });
  await settle();
  agrees(room, gateway);
});

test('what is refused can be sent again or dismissed; what is held goes when it is released', async () => {
  const { gateway, room, seen, settle } = scene();
  await settle();
  const sends = ['refuse it', 'hold it', 'drop it', 'fine'].map((text) => room.send({ text }));
  await settle();
  assert.deepEqual((await Promise.all(sends)).map((reply) => reply?.status), [undefined, 'held', 'discarded', 'stored']);
  assert.deepEqual(states(room.snapshot()), ['stored', 'failed', 'held', 'discarded']);
  const [, failed, held, discarded] = room.snapshot().messages;
  assert.deepEqual([failed.error.code, failed.error.reply.plugin, held.held_id], ['rejected', 'p', 9]);
  const again = room.retry(failed.key);
  assert.equal(room.snapshot().messages[1].state, 'sending');
  await settle();
  assert.equal(await again, undefined);
  const keys = gateway.heard.filter(({ body }) => body?.text === 'refuse it').map((frame) => frame.idempotency_key);
  assert.ok(keys.length === 2 && keys[0] === keys[1], 'the same send');
  room.dismiss(failed.key);
  room.dismiss(discarded.key);
  gateway.create(ALICE, { text: 'hold it' });
  await settle();
  assert.deepEqual(room.snapshot().messages.map(({ key }) => key), [room.snapshot().messages[0].key, held.key]);
  agrees(room, gateway);
  neverTwice(seen);
});

test('own edits, reactions and deletions are shown by their replies, and refusals are told', async () => {
  const { gateway, room, settle } = scene();
  await settle();
  const [own, other] = [gateway.create(ALICE, { text: 'mine' }), gateway.create(BOB, { text: 'his' })];
  await settle();
  // Before that, in the order of changes; it comes after the reply.
  gateway.react(BOB, own.id, '👍');
  const editing = room.edit(own.id, { text: 'still mine' });
  const reacting = [room.react(own.id, '👍'), room.react(own.id, '👍'), room.react(other.id, '🎉', { remove: true })];
  await settle({ relay: false });
  assert.equal((await editing).version, 2);
  const shown = room.snapshot().messages[0];
  assert.deepEqual([shown.body.text, shown.reactions], ['still mine', [{ reaction: '👍', count: 2, own: true }]]);
  const replies = await Promise.all(reacting);
  assert.deepEqual(replies.map(({ duplicate }) => duplicate ?? false), [false, true, true]);
  gateway.relay();
  gateway.deliver();
  assert.equal(room.snapshot().messages[0].reactions[0].count, 2, 'an event that the reply has overtaken');
  await settle();
  agrees(room, gateway);
  const refused = assert.rejects(room.edit(other.id, { text: 'mine!' }), { code: 'not_author' });
  await settle();
  await refused;
  const deleting = room.delete(own.id);
  await settle({ relay: false });
  assert.deepEqual([(await deleting).version, texts(room.snapshot())], [3, [null, 'his']]);
  await settle();
  agrees(room, gateway);
});

test('events that come before the answer of the history, or after an older one, are applied once', async () => {
  const gateway = new ModelGateway();
  const [old, young] = ['old', 'young'].map((text) => gateway.create(BOB, { text }));
  const { room, settle } = scene({ gateway, pageSize: 1 });
  await settle();
  const older = room.loadOlder();
  await tick();
  // Read, but not answered.
  gateway.serve();
  gateway.edit(BOB, old.id, { text: 'older' });
  gateway.react(BOB, old.id, '👍');
  gateway.react(ALICE, young.id, '👍');
  while (gateway.relay() || gateway.deliver());
  assert.deepEqual(texts(room.snapshot()), ['young']);
  await settle();
  await older;
  agrees(room, gateway);
});

test('what a page knew already changes nothing when its event comes late', async () => {
  const gateway = new ModelGateway();
  const [old] = ['old', 'young'].map((text) => gateway.create(BOB, { text }));
  const { room, seen, settle } = scene({ gateway, pageSize: 1 });
  await settle();
  for (const remove of [false, true]) gateway.react(BOB, old.id, '👍', remove);
  gateway.edit(BOB, old.id, { text: 'older' });
  const older = room.loadOlder();
  await settle({ relay: false });
  await older;
  const [before, draws] = [room.snapshot(), seen.length];
  assert.deepEqual([texts(before), before.messages[0].reactions], [['older', 'young'], []]);
  await settle();
  assert.deepEqual([room.snapshot() === before, seen.length], [true, draws]);
});

test('who missed too much reads everything anew, and shows what there was until then', async () => {
  const { gateway, room, seen, settle } = scene({ pageSize: 3 });
  await settle();
  const first = gateway.create(BOB, { text: '1' });
  await settle();
  gateway.mostReplayed = 2;
  gateway.cut();
  gateway.edit(BOB, first.id, { text: '1, edited' });
  for (const text of ['2', '3', '4', '5']) gateway.create(BOB, { text });
  const begun = seen.length;
  await settle();
  assert.deepEqual(texts(room.snapshot()), ['3', '4', '5']);
  assert.ok(seen.slice(begun).every(({ messages }) => messages.length > 0), 'never empty');
  assert.deepEqual(seen.slice(begun).map(({ status }) => status), ['loading', 'ready']);
  const older = room.loadOlder();
  await settle();
  await older;
  agrees(room, gateway);
});

test('a gateway that was set back is read anew', async () => {
  const { gateway, room, settle } = scene();
  await settle();
  for (const text of ['1', '2', '3']) gateway.create(BOB, { text });
  await settle();
  gateway.cut();
  gateway.changes.length = 1;
  for (const id of [102, 103]) gateway.messages.delete(id);
  await settle();
  agrees(room, gateway);
});

test('a conversation that is lost says so, and can be tried again', async () => {
  const gateway = new ModelGateway();
  gateway.create(BOB, { text: 'hello' });
  gateway.refusals.history = [{ code: 'not_participant', error: 'no' }];
  const { room, settle } = scene({ gateway });
  await settle();
  assert.deepEqual([room.snapshot().status, room.snapshot().error.code], ['lost', 'not_participant']);
  room.reload();
  await settle();
  assert.deepEqual([room.snapshot().status, room.snapshot().error], ['ready', undefined]);
  gateway.refusals.join = [{ code: 'not_participant', error: 'no' }];
  gateway.cut();
  await settle();
  assert.deepEqual([room.snapshot().status, texts(room.snapshot())], ['lost', ['hello']]);
  room.reload();
  await settle();
  gateway.create(BOB, { text: 'again' });
  await settle();
  agrees(room, gateway);
});

test('a snapshot stays the same object while nothing changes, and so does each message', async () => {
  const { gateway, chat, room, settle } = scene();
  await settle();
  const [one] = ['one', 'two'].map((text) => gateway.create(BOB, { text }));
  await settle();
  const before = room.snapshot();
  assert.equal(room.snapshot(), before);
  gateway.socket.outbox.push({ ...gateway.changes[0].event }, { op: 'event', type: 'message.read', event_id: 1, conversation_id: ROOM });
  await settle();
  assert.equal(room.snapshot(), before, 'a repeated event, and one of something else');
  gateway.react(BOB, one.id, '👍');
  gateway.changes.at(-1).event = { ...gateway.changes.at(-1).event, overtaken: true, reaction: undefined };
  await settle();
  assert.equal(room.snapshot(), before, 'a change of which nothing is left');
  gateway.edit(BOB, one.id, { text: 'ONE' });
  await settle();
  assert.notEqual(room.snapshot(), before);
  assert.notEqual(room.snapshot().messages[0], before.messages[0]);
  assert.equal(room.snapshot().messages[1], before.messages[1]);
  assert.throws(() => (room.snapshot().messages[0].body = {}), TypeError);
  assert.equal(chat.lastSeq(ROOM), 4);
});

test('a room that is closed hears no more, and leaves the conversation if it was the last', async () => {
  const { gateway, chat, room, settle } = scene();
  const other = new ArcYouRoom(chat, ROOM);
  await settle();
  room.close();
  room.close();
  gateway.create(BOB, { text: 'hello' });
  await settle();
  assert.deepEqual([texts(room.snapshot()), texts(other.snapshot())], [[], ['hello']]);
  other.close();
  await settle();
  assert.equal(gateway.socket.position, undefined);
  room.reload();
  await settle();
  agrees(room, gateway);
});

/** Random numbers that are the same each time. */
function seeded(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const EMOJI = ['👍', '🎉', '😄'];

/** Many changes by everybody, while frames wait, overtake each other and get lost, and the same picture as the gateway's in the end. */
async function anything(seed) {
  const random = seeded(seed);
  const upTo = (count) => Math.floor(random() * count);
  const pick = (list) => list[upTo(list.length)];
  const gateway = new ModelGateway();
  let said = 0;
  const text = () => ({ text: `t${(said += 1)}` });
  for (let before = upTo(12); before > 0; before -= 1) gateway.create(pick([ALICE, BOB]), text());
  const { clock, room, seen, settle } = scene({ gateway, random, pageSize: 4, maxMs: 20 });
  const outcomes = [];
  const own = (asked) => outcomes.push(Promise.resolve(asked).catch((error) => error.code));
  const alive = (user) => [...gateway.messages.values()].map(({ message }) => message).filter((message) => !message.deleted_at && (!user || message.sender_id === user));
  /** By Bob, or by another device of Alice. */
  const others = {
    create: (user) => gateway.create(user, text(), alive().length && random() < 0.3 ? pick(alive()).id : undefined),
    edit: (user) => alive(user).length && gateway.edit(user, pick(alive(user)).id, text()),
    delete: (user) => alive(user).length && random() < 0.4 && gateway.delete(user, pick(alive(user)).id),
    react: (user) => alive().length && gateway.react(user, pick(alive()).id, pick(EMOJI), random() < 0.4),
  };
  const shown = () => room.snapshot().messages.filter(({ state }) => state === 'stored');
  const acts = {
    send: () => own(room.send(text())),
    edit: () => shown().length && own(room.edit(pick(shown()).id, text())),
    delete: () => shown().length && random() < 0.3 && own(room.delete(pick(shown()).id)),
    react: () => shown().length && own(room.react(pick(shown()).id, pick(EMOJI), { remove: random() < 0.4 })),
    older: () => own(room.loadOlder()),
  };
  gateway.mostReplayed = pick([3, 10, 1000]);
  for (let step = 0; step < 250; step += 1) {
    const dice = random();
    if (dice < 0.18) pick(Object.values(others))(pick([ALICE, BOB, BOB]));
    else if (dice < 0.36) pick(Object.values(acts))();
    else if (dice < 0.56) gateway.serve();
    else if (dice < 0.72) gateway.relay();
    else if (dice < 0.92) for (let count = 1 + upTo(4); count > 0; count -= 1) gateway.deliver();
    else if (dice < 0.96) clock.advance(upTo(20));
    else if (dice < 0.975) gateway.cut();
    else if (dice < 0.985) gateway.refusals[pick(['send', 'edit', 'react', 'join', 'history'])] = [{ code: 'unavailable', error: 'no' }];
    if (random() < 0.5) await tick();
  }
  await settle();
  await Promise.all(outcomes);
  assert.equal(room.snapshot().status, 'ready');
  // What is there of it is right, before anything is read anew.
  const there = room.snapshot().messages.map(stripped);
  assert.deepEqual(there, gateway.seenBy(ALICE).slice(-there.length || Infinity));
  while (room.snapshot().hasOlder) await Promise.all([room.loadOlder(), settle()]);
  agrees(room, gateway);
  neverTwice(seen);
  return seen.length;
}

test('whatever happens, it ends with what the gateway has, and nothing was ever shown twice', async () => {
  const runs = Number(process.env.ROOM_RUNS ?? 40);
  const first = Number(process.env.ROOM_SEED ?? 1);
  for (let seed = first; seed < first + runs; seed += 1) {
    try {
      await anything(seed);
    } catch (error) {
      error.message = `ROOM_SEED=${seed} ROOM_RUNS=1: ${error.message}`;
      throw error;
    }
    for (const end of ends.splice(0)) end();
  }
});
