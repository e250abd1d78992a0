// The reference client against a gateway that follows a script: what real faults show too seldom.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { afterEach, test } from 'node:test';

import WebSocket, { WebSocketServer } from 'ws';

import { ArcYouClient, ArcYouError } from '../../web/arcyou-client.js';

const ROOM = '11111111-1111-4111-8111-111111111111';
const USER = '22222222-2222-4222-8222-222222222222';
const ends = [];

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** A list that can be awaited. */
class Log {
  items = [];
  #waiting = [];

  push(item) {
    this.items.push(item);
    this.#waiting = this.#waiting.filter((check) => !check());
  }

  /** The first item, there or to come, from `from` on that this holds for. */
  find(holds, from = 0) {
    return new Promise((resolve) => {
      const check = () => {
        const index = this.items.findIndex((item, at) => at >= from && holds(item));
        if (index >= 0) resolve(this.items[index]);
        return index >= 0;
      };
      if (!check()) this.#waiting.push(check);
    });
  }
}

/** A gateway in which `answers` decides: for each frame a reply, or undefined to say nothing. */
async function gateway(answers = {}) {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  const heard = new Log();
  const sockets = new Log();
  server.on('connection', (socket) => {
    const number = sockets.items.length;
    const say = (frame) => socket.send(JSON.stringify(frame));
    const peer = { number, say, socket };
    socket.on('message', (data) => {
      const frame = JSON.parse(data.toString());
      const reply = (answers[frame.op] ?? standard[frame.op])(frame, peer);
      heard.push({ ...frame, connection: number });
      if (reply) say({ op: frame.op, ref: frame.ref, success: !reply.code, ...reply });
      reply?.then?.forEach(say);
    });
    sockets.push(peer);
  });
  ends.push(() => {
    for (const socket of server.clients) socket.terminate();
    server.close();
  });
  return { url: `ws://127.0.0.1:${server.address().port}`, heard, sockets };
}

const LIMITS = {
  frames_per_second: 0,
  frames_burst: 200,
  max_frame_bytes: 65536,
  max_body_bytes: 32768,
  max_joined: 1000,
  max_join_list: 500,
  joins_per_frame: 20,
};

const standard = {
  auth: () => ({ userId: USER, limits: LIMITS }),
  ping: () => ({}),
  join: ({ after_seq }) => ({ conversation_id: ROOM, last_seq: after_seq ?? 0, ...(after_seq !== undefined && { resumed: true }) }),
  leave: () => ({}),
  ack: ({ last_read_id }) => ({ last_read_id }),
  history: () => ({ messages: [], has_more: false }),
  send: () => ({ status: 'stored', message_id: 1, seq: 1 }),
  edit: () => ({ status: 'stored', message_id: 1, seq: 2, version: 2 }),
  delete: () => ({ message_id: 1, seq: 3, version: 3 }),
  react: () => ({ message_id: 1, seq: 4, count: 1 }),
};

const refusal = (code, more) => ({ code, error: `no: ${code}`, ...more });
const message = (seq) => ({ id: seq + 100, seq, conversation_id: ROOM, body: { text: `m${seq}` } });
const change = (seq, type, more) => ({ op: 'event', type, source: 'live', seq, conversation_id: ROOM, ...more });
const created = (seq) => change(seq, 'message.created', { message: message(seq) });

function client(url, options = {}) {
  const events = new Log();
  const states = new Log();
  const lost = new Log();
  const resets = new Log();
  const missed = new Log();
  const chat = new ArcYouClient(url, {
    token: () => USER,
    WebSocket,
    backoff: { baseMs: 1, maxMs: 5 },
    onEvent: (event) => events.push(event),
    onState: (state, why) => states.push({ state, ...why }),
    onLost: (id, error) => lost.push({ id, code: error.code }),
    onReset: (id) => resets.push(id),
    onMissed: (id) => missed.push(id),
    ...options,
  });
  ends.push(() => chat.close());
  return { chat, events, states, lost, resets, missed, seqs: () => events.items.map((event) => event.message?.seq) };
}

const reachedSeq = (events, seq) => events.find((event) => event.message?.seq === seq);
const refused = (code) => (error) => error instanceof ArcYouError && error.code === code;

for (const code of [1000, 1001, 1006, 1009, 1011, 1012, 1013, 4000, 4001, 4002, 4003, 4499]) {
  test(`after ${code} it comes back and resumes`, async () => {
    const { url, heard, sockets } = await gateway({ join: () => ({ last_seq: 7, resumed: true }) });
    let tokens = 0;
    const { chat, states } = client(url, { token: async () => `token-${++tokens}` });
    assert.equal((await chat.join(ROOM.toUpperCase())).last_seq, 7);
    const { socket } = await sockets.find(({ number }) => number === 0);
    if (code === 1006) socket.terminate();
    else socket.close(code, 'go');
    const again = await heard.find(({ op, connection }) => op === 'join' && connection === 1);
    assert.equal(again.after_seq, 7);
    const auths = heard.items.filter(({ op }) => op === 'auth');
    assert.deepEqual(auths.map(({ token }) => token), ['token-1', 'token-2']);
    const waiting = states.items.find(({ state }) => state === 'waiting');
    assert.ok(waiting.code === code && waiting.retryInMs <= 1);
  });
}

for (const code of [1002, 1007, 4500, 4501, 4502, 4503, 4999]) {
  test(`after ${code} it stops and says why`, async () => {
    const { url, sockets } = await gateway({ send: () => undefined });
    const { chat, states } = client(url);
    await chat.join(ROOM);
    const sending = chat.send(ROOM, {}, { idempotencyKey: 'k' });
    (await sockets.find(() => true)).socket.close(code, 'mend it');
    await assert.rejects(sending, (error) => refused('closed')(error) && error.idempotencyKey === 'k');
    assert.deepEqual(states.items.at(-1), { state: 'stopped', code, reason: 'mend it' });
    await assert.rejects(chat.send(ROOM, {}), refused('closed'));
    assert.equal(sockets.items.length, 1);
  });
}

test('delays double up to a limit, are random, and start anew after a connection that lasted', async () => {
  const delays = [];
  let now = 0;
  let timers = [];
  const clock = {
    now: () => now,
    random: () => 0.5,
    set: (run, ms) => timers.push({ run, ms }) && timers.at(-1),
    clear: (timer) => (timers = timers.filter((other) => other !== timer)),
  };
  const sockets = new Log();
  class Fake {
    constructor() {
      sockets.push(this);
    }
    send(text) {
      this.onmessage({ data: JSON.stringify({ op: 'auth', success: true, userId: USER, ref: JSON.parse(text).ref }) });
    }
    close() {}
  }
  const { states } = client('ws://nowhere', { WebSocket: Fake, clock, backoff: { baseMs: 100, maxMs: 1000 } });
  for (let round = 0; round < 8; round += 1) {
    const socket = await sockets.find(() => true, round);
    if (round === 6) {
      socket.onopen();
      now += 1000;
    }
    socket.onclose({ code: 1006, reason: '' });
    delays.push(states.items.at(-1).retryInMs);
    timers.find(({ ms }) => ms === delays.at(-1)).run();
  }
  assert.deepEqual(delays, [50, 100, 200, 400, 500, 500, 50, 100]);
});

test('a send is repeated with its key until there is a final answer, in order, one at a time', async () => {
  const answers = [
    refusal('unavailable'),
    refusal('overloaded', { retry_after_ms: 1 }),
    refusal('outcome_unknown'),
    refusal('rate_limited', { retry_after_ms: 1 }),
    'drop',
    { status: 'stored', seq: 1, duplicate: true },
    refusal('rejected', { plugin: 'p', reject_code: 'r' }),
    { status: 'stored', seq: 2 },
  ];
  const { url, heard } = await gateway({
    send: (_, { socket }) => {
      const answer = answers.shift();
      if (answer === 'drop') socket.terminate();
      else return answer;
    },
  });
  const { chat } = client(url);
  const body = { text: 'one' };
  const [one, two, three] = [chat.send(ROOM, body), chat.send(ROOM, { text: 'two' }), chat.send(ROOM, { text: 'three' })];
  body.text = 'changed';
  assert.deepEqual([(await one).seq, (await one).duplicate], [1, true]);
  await assert.rejects(two, (error) => refused('rejected')(error) && error.reply.plugin === 'p');
  assert.equal((await three).seq, 2);
  const sends = heard.items.filter(({ op }) => op === 'send');
  assert.deepEqual(sends.map((send) => send.body.text), [...Array(6).fill('one'), 'two', 'three']);
  assert.equal(new Set(sends.map((send) => send.idempotency_key)).size, 3);
});

test('what waits is bounded, is sent once there is a gateway, and ends with close', async () => {
  let admit;
  const token = new Promise((resolve) => (admit = resolve));
  const { url, heard } = await gateway({ send: ({ body }) => (body.n < 2 ? standard.send() : undefined) });
  const { chat } = client(url, { token: () => token, maxQueued: 3 });
  const sends = [0, 1, 2].map((n) => chat.send(ROOM, { n }));
  await assert.rejects(chat.send(ROOM, { n: 3 }), refused('queue_full'));
  await assert.rejects(chat.join(ROOM), refused('queue_full'));
  admit(USER);
  await Promise.all(sends.slice(0, 2));
  await heard.find(({ body }) => body?.n === 2);
  assert.equal(heard.items.filter(({ op }) => op === 'join').length, 0, 'what was refused is not done later');
  chat.close();
  await assert.rejects(sends[2], refused('closed'));
});

test('edits, deletions and reactions go in the order of the calls, and are repeated as sends are', async () => {
  const answers = { edit: [refusal('outcome_unknown'), 'drop'], delete: [refusal('unavailable')], react: [refusal('overloaded', { retry_after_ms: 1 })] };
  const answer = (op) => (frame, { socket }) => {
    const next = answers[op].shift();
    return next === 'drop' ? void socket.terminate() : (next ?? standard[op](frame));
  };
  const { url, heard } = await gateway({ edit: answer('edit'), delete: answer('delete'), react: answer('react') });
  const { chat } = client(url);
  const body = { text: 'edited' };
  const asked = [
    chat.send(ROOM, {}, { replyTo: 7 }),
    chat.edit(ROOM, 1, body, { ifVersion: 1, tempId: 't' }),
    chat.react(ROOM, 1, '👍'),
    chat.react(ROOM, 1, '👍', { remove: true }),
    chat.delete(ROOM, 1),
  ];
  body.text = 'changed';
  const replies = await Promise.all(asked);
  assert.deepEqual(replies.map(({ seq }) => seq), [1, 2, 4, 4, 3]);
  const changes = heard.items.filter(({ op }) => op !== 'auth');
  assert.deepEqual(changes.map(({ op }) => op).join(' '), 'send edit edit edit react react react delete delete');
  const { idempotency_key: key, ref, connection, ...edit } = changes[1];
  assert.deepEqual(edit, { op: 'edit', conversation_id: ROOM, message_id: 1, body: { text: 'edited' }, if_version: 1, temp_id: 't' });
  assert.ok(key.length > 20 && changes.slice(1, 4).every((frame) => frame.idempotency_key === key), 'one key for one edit');
  assert.deepEqual([changes[0].reply_to, changes[4].reaction, changes[6].remove, changes[8].message_id], [7, '👍', true, 1]);
});

test('an edit that is refused says why, and keeps its key', async () => {
  const { url } = await gateway({ edit: () => refusal('version_conflict', { version: 4 }), delete: () => refusal('not_author') });
  const { chat } = client(url);
  const conflict = (error) => refused('version_conflict')(error) && error.reply.version === 4 && error.idempotencyKey === 'k';
  await assert.rejects(chat.edit(ROOM, 1, {}, { ifVersion: 2, idempotencyKey: 'k' }), conflict);
  await assert.rejects(chat.delete(ROOM, 1), refused('not_author'));
});

test('the history is asked for around a place, or of a thread', async () => {
  const { url, heard } = await gateway();
  const { chat } = client(url);
  await chat.history(ROOM, { aroundSeq: 40, limit: 10 });
  await chat.history(ROOM, { thread: 7 });
  const asked = heard.items.slice(1).map(({ around_seq, thread, limit }) => [around_seq, thread, limit]);
  assert.deepEqual(asked, [[40, undefined, 10], [undefined, 7, undefined]]);
});

test('changes of all kinds are told once, in order, and the last of any kind is where it resumes', async () => {
  const { url, heard, sockets } = await gateway();
  const { chat, events } = client(url);
  await chat.join(ROOM);
  const { say, socket } = await sockets.find(() => true);
  const reaction = (seq) => change(seq, 'reaction.added', { message_id: 101, user_id: USER, reaction: '👍', count: 1 });
  const overtaken = (seq) => change(seq, 'message.edited', { message_id: 101, overtaken: true });
  const edited = (seq) => change(seq, 'message.edited', { message: message(1), user_id: USER });
  const deleted = (seq) => change(seq, 'message.deleted', { message: { ...message(1), body: null }, user_id: USER });
  [created(1), reaction(2), created(1), overtaken(3), edited(4), reaction(2), edited(4)].forEach(say);
  await events.find(({ seq }) => seq === 4);
  socket.close(1012);
  const again = await heard.find(({ op, connection }) => op === 'join' && connection === 1);
  assert.equal(again.after_seq, 4);
  const next = await sockets.find(({ number }) => number === 1);
  [edited(4), deleted(5), created(6)].forEach(next.say);
  await reachedSeq(events, 6);
  const kinds = events.items.map(({ seq, type }) => `${seq} ${type}`);
  assert.deepEqual(kinds, [
    '1 message.created',
    '2 reaction.added',
    '3 message.edited',
    '4 message.edited',
    '5 message.deleted',
    '6 message.created',
  ]);
  assert.equal(chat.lastSeq(ROOM), 6);
});

test('who listens to one conversation hears of that one, until it is enough', async () => {
  const other = ROOM.replace('1', '5');
  const { url, sockets } = await gateway();
  const { chat, events } = client(url);
  const heard = [];
  const [stop, stopToo] = ['a', 'b'].map((name) => chat.listen(ROOM.toUpperCase(), { onEvent: ({ seq }) => heard.push(`${name}${seq}`) }));
  await Promise.all([chat.join(ROOM), chat.join(other)]);
  const { say } = await sockets.find(() => true);
  [created(1), { ...created(1), conversation_id: other }, created(2)].forEach(say);
  await reachedSeq(events, 2);
  assert.deepEqual(heard, ['a1', 'b1', 'a2', 'b2']);
  assert.equal(stop(), false);
  say(created(3));
  await reachedSeq(events, 3);
  assert.deepEqual([heard.at(-1), stopToo()], ['b3', true]);
});

test('each message is told once, in order, and other events once', async () => {
  const other = (event_id, more) => ({ op: 'event', type: 'message.read', event_id, conversation_id: ROOM, ...more });
  const { url, sockets } = await gateway();
  const { chat, events } = client(url);
  await chat.join(ROOM);
  const { say, socket } = await sockets.find(() => true);
  [created(1), other(9), created(1), created(2), other(9), other(8), created(1), created(3)].forEach(say);
  await reachedSeq(events, 3);
  socket.close(1012);
  const next = await sockets.find(({ number }) => number === 1);
  await chat.ack(ROOM, 103);
  [created(2), created(3), other(8), created(4)].forEach(next.say);
  await reachedSeq(events, 4);
  assert.deepEqual(events.items.map((event) => event.event_id ?? `m${event.message.seq}`), ['m1', 9, 'm2', 8, 'm3', 'm4']);
  assert.equal(chat.lastSeq(ROOM), 4);
});

test('messages that come in the same piece of the stream as the reply to the join are told', async () => {
  const { url } = await gateway({
    join: (frame, { socket }) => {
      const reply = { op: 'join', ref: frame.ref, success: true, last_seq: 2, resumed: true };
      socket._socket.cork();
      for (const item of [reply, created(1), created(2), created(3)]) socket.send(JSON.stringify(item));
      socket._socket.uncork();
    },
  });
  const { chat, events, seqs } = client(url);
  await chat.join(ROOM, { afterSeq: 0 });
  await reachedSeq(events, 3);
  assert.deepEqual(seqs(), [1, 2, 3]);
});

test('resumed: false is filled from the history before anything live is told', async () => {
  let stored = 450;
  const { url } = await gateway({
    join: () => ({ last_seq: 450, resumed: false }),
    history: ({ after_seq, limit }, { say }) => {
      // Live while the pages come; and one that was deleted: nobody can tell it any more.
      if (stored < 453) say(created(++stored));
      const all = Array.from({ length: stored }, (_, at) => message(at + 1)).filter(({ seq }) => seq > after_seq && seq !== 7);
      return { messages: all.slice(0, limit), has_more: all.length > limit };
    },
  });
  const { chat, events, missed, seqs } = client(url);
  await chat.join(ROOM, { afterSeq: 3 });
  await reachedSeq(events, 453);
  assert.deepEqual(seqs(), [4, 5, 6, ...Array.from({ length: 446 }, (_, at) => at + 8)]);
  assert.deepEqual([missed.items, events.items.map(({ source }) => source).lastIndexOf('history')], [[ROOM], 445], 'the live ones are told as such');
});

test('without a fill what was missed is told to be missed, and the rest goes on', async () => {
  const { url, heard, sockets } = await gateway({ join: () => ({ last_seq: 450, resumed: false }) });
  const { chat, events, missed, seqs } = client(url);
  await chat.join(ROOM, { afterSeq: 3, fill: false });
  assert.deepEqual([missed.items, chat.lastSeq(ROOM)], [[ROOM], 450]);
  const { say } = await sockets.find(() => true);
  [created(450), created(451)].forEach(say);
  await reachedSeq(events, 451);
  assert.deepEqual([seqs(), heard.items.filter(({ op }) => op === 'history').length], [[451], 0]);
});

for (const resumed of [true, false]) {
  test(`a fill goes on after a reconnect, where it was, resumed: ${resumed}`, async () => {
    const all = Array.from({ length: 250 }, (_, at) => message(at + 1));
    const { url } = await gateway({
      join: ({ after_seq }, { number }) => {
        const comes = number === 1 && resumed;
        return { last_seq: 250, resumed: comes, then: comes ? all.slice(after_seq).map(({ seq }) => created(seq)) : [] };
      },
      history: ({ after_seq, limit }, { number, socket, say }) => {
        if (after_seq > 0 && number === 0) return socket.terminate();
        if (number === 0) say(created(251));
        return { messages: all.slice(after_seq, after_seq + limit), has_more: after_seq + limit < 250 };
      },
    });
    const { chat, events, seqs } = client(url);
    await chat.join(ROOM, { afterSeq: 0 });
    await reachedSeq(events, 250);
    assert.deepEqual(seqs(), all.map(({ seq }) => seq));
    assert.equal(events.items.at(-1).source, resumed ? 'live' : 'history');
  });
}

test('a token that expires is renewed on the same socket, and what was refused meanwhile is asked again', async () => {
  let expired = false;
  let tokens = 0;
  const { url, heard, sockets } = await gateway({
    auth: () => ((expired = false), { userId: USER }),
    send: () => (expired ? refusal('auth_required') : standard.send()),
  });
  const { chat, states } = client(url, { token: () => `token-${++tokens}` });
  await chat.join(ROOM);
  expired = true;
  const { say } = await sockets.find(() => true);
  say({ op: 'auth', success: false, ...refusal('token_expired') });
  await heard.find(({ token }) => token === 'token-2');
  expired = true;
  assert.equal((await chat.send(ROOM, {})).seq, 1);
  assert.deepEqual(heard.items.filter(({ op }) => op === 'auth').map(({ token }) => token), ['token-1', 'token-2', 'token-3']);
  assert.equal(sockets.items.length, 1);
  assert.deepEqual(states.items.map(({ state }) => state), ['connecting', 'online']);
});

test('a stale token is exchanged by a reconnect; a bad one stops', async () => {
  const { url } = await gateway({
    auth: ({ token }) => ({ 0: refusal('token_expired'), 1: { userId: USER }, 2: refusal('token_signature') })[token],
    send: (_, { socket }) => socket.close(4003),
  });
  let tokens = 0;
  const { chat, states } = client(url, { token: () => String(tokens++) });
  await assert.rejects(chat.send(ROOM, {}), refused('closed'));
  assert.deepEqual(states.items.at(-1), { state: 'stopped', code: 'token_signature', reason: 'no: token_signature' });
  assert.equal(states.items.find(({ state }) => state === 'waiting').reason, 'no: token_expired');
});

test('keys that are late are waited for; a user who is disconnected stays out', async () => {
  const answers = { 0: refusal('keys_unavailable'), 1: refusal('token_key_unknown'), 2: { userId: USER } };
  const { url } = await gateway({
    auth: ({ token }) => answers[token],
    send: (_, { socket }) => socket.close(4504),
  });
  let tokens = 0;
  const { chat, states } = client(url, { token: () => String(tokens++) });
  await assert.rejects(chat.send(ROOM, {}), refused('closed'));
  assert.deepEqual([states.items.at(-1).state, states.items.at(-1).code, tokens], ['stopped', 4504, 3]);
});

test('a token callback that fails, or never answers, is asked again', async () => {
  const { url } = await gateway();
  let calls = 0;
  const token = () => {
    calls += 1;
    if (calls === 1) throw new Error('no network');
    return calls === 2 ? new Promise(() => {}) : Promise.resolve(USER);
  };
  const { chat, states } = client(url, { token, tokenTimeoutMs: 20 });
  await chat.join(ROOM);
  const reasons = states.items.filter(({ state }) => state === 'waiting').map(({ reason }) => reason);
  assert.deepEqual(reasons, ['Error: no network', 'Error: the token callback did not answer']);
});

test('a half-open connection is given up, whether something is asked or not', async () => {
  const { url, sockets } = await gateway({
    ping: (_, { number }) => (number === 1 && pings++ > 2 ? undefined : {}),
    send: (_, { number }) => (number === 0 ? undefined : standard.send()),
  });
  let pings = 0;
  const { chat, states } = client(url, { requestTimeoutMs: 200, idleMs: 20, pingTimeoutMs: 200 });
  assert.equal((await chat.send(ROOM, {})).status, 'stored');
  await sockets.find(({ number }) => number === 2);
  const reasons = states.items.filter(({ state }) => state === 'waiting').map(({ code }) => code);
  assert.deepEqual(reasons.slice(0, 2), ['timeout', 'timeout']);
});

/** A clock that only the test moves. */
function heldClock() {
  let [now, timers] = [0, []];
  return {
    now: () => now,
    random: () => 0.5,
    set: (run, ms) => timers.push({ run, at: now + ms }) && timers.at(-1),
    clear: (timer) => (timers = timers.filter((other) => other !== timer)),
    /** Runs what is due up to then, in order. */
    advance(ms) {
      const end = now + ms;
      for (;;) {
        const [next] = timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
        if (!next) break;
        this.clear(next);
        now = next.at;
        next.run();
      }
      now = end;
    },
  };
}

/** Sockets that are answered at once, without a network, but for the requests in `unheard`. */
function fakeNetwork(answers = standard) {
  const sockets = new Log();
  const network = { unheard: [], sockets };
  network.WebSocket = class {
    sent = [];
    constructor() {
      sockets.push(this);
    }
    open() {
      this.onopen();
    }
    send(text) {
      const frame = JSON.parse(text);
      this.sent.push(frame.op);
      if (network.unheard.includes(frame.op)) return;
      const reply = answers[frame.op](frame);
      this.onmessage({ data: JSON.stringify({ op: frame.op, success: !reply.code, ref: frame.ref, ...reply }) });
    }
    close() {}
  };
  return network;
}

test('a dead network is noticed 10 s after a request, or after 25 s of silence; then patience grows', async () => {
  const [clock, network] = [heldClock(), fakeNetwork()];
  const { chat, states } = client('ws://nowhere', { clock, WebSocket: network.WebSocket });
  const lost = () => states.items.filter(({ state }) => state === 'waiting').length;
  const connect = async (count) => {
    clock.advance(10);
    (await network.sockets.find(() => true, count)).open();
  };
  network.unheard = ['ping', 'send'];
  await connect(0);
  clock.advance(24_999);
  assert.equal(lost(), 0);
  clock.advance(1);
  assert.equal(lost(), 1);
  const sending = chat.send(ROOM, {});
  for (const [at, patience] of [20_000, 40_000, 40_000].entries()) {
    await connect(at + 1);
    clock.advance(patience - 1);
    assert.equal(lost(), at + 1);
    clock.advance(1);
    assert.equal(lost(), at + 2);
  }
  // An answer, and the next silence is met as the first.
  network.unheard = [];
  await connect(4);
  await sending;
  network.unheard = ['send'];
  chat.send(ROOM, {}).catch(() => {});
  clock.advance(9999);
  assert.equal(lost(), 4);
  clock.advance(1);
  assert.equal(lost(), 5);
});

/** What a browser has, for as long as a test runs. */
function browser(t) {
  const [window, document] = [new EventTarget(), new EventTarget()];
  document.visibilityState = 'visible';
  globalThis.addEventListener = window.addEventListener.bind(window);
  globalThis.document = document;
  globalThis.location = { origin: 'https://page.example' };
  t.after(() => ['addEventListener', 'document', 'location'].forEach((name) => delete globalThis[name]));
  return {
    online: () => window.dispatchEvent(new Event('online')),
    look: (state) => {
      document.visibilityState = state;
      document.dispatchEvent(new Event('visibilitychange'));
    },
  };
}

for (const how of ['online', 'visible', 'reconnect']) {
  test(`who waits tries at once: ${how}`, async (t) => {
    const page = browser(t);
    const [clock, network] = [heldClock(), fakeNetwork()];
    const { chat, states } = client('ws://nowhere', { clock, WebSocket: network.WebSocket, backoff: { baseMs: 30_000 } });
    (await network.sockets.find(() => true)).onclose({ code: 1006, reason: '' });
    page.look('hidden');
    assert.equal(chat.state, 'waiting');
    ({ online: page.online, visible: () => page.look('visible'), reconnect: () => chat.reconnect() })[how]();
    (await network.sockets.find(() => true, 1)).open();
    assert.equal(chat.state, 'online');
    clock.advance(20_000);
    assert.deepEqual([network.sockets.items.length, states.items.length], [2, 4], 'the attempt that was planned is off');
    chat.close();
    [page.online, () => page.look('visible'), () => chat.reconnect()].forEach((event) => event());
    assert.equal(network.sockets.items.length, 2, 'who is closed stays closed');
  });

  test(`a connection that may be dead is tried, or left: ${how}`, async (t) => {
    const page = browser(t);
    const [clock, network] = [heldClock(), fakeNetwork()];
    const { chat, states } = client('ws://nowhere', { clock, WebSocket: network.WebSocket });
    const first = await network.sockets.find(() => true);
    first.open();
    if (how === 'reconnect') {
      chat.reconnect();
      assert.deepEqual(states.items.slice(-2).map(({ state, code }) => code ?? state), ['reconnect', 'connecting']);
    } else {
      const event = how === 'online' ? page.online : () => page.look('visible');
      event();
      assert.deepEqual([first.sent, chat.state], [['auth', 'ping'], 'online'], 'an answer, and it stays');
      network.unheard = ['ping'];
      event();
      event();
      assert.equal(first.sent.length, 3, 'one ping is enough');
      clock.advance(5000);
      assert.equal(states.items.at(-1).code, 'timeout');
      chat.reconnect();
    }
    network.unheard = [];
    (await network.sockets.find(() => true, 1)).open();
    assert.equal(chat.state, 'online');
  });
}

test('an attempt that was overtaken while its token was fetched is dropped', async () => {
  const network = fakeNetwork();
  const tokens = [];
  const { chat } = client('ws://nowhere', { WebSocket: network.WebSocket, token: () => new Promise((resolve) => tokens.push(resolve)) });
  chat.reconnect();
  tokens.forEach((resolve) => resolve(USER));
  (await network.sockets.find(() => true)).open();
  await chat.join(ROOM);
  assert.equal(network.sockets.items.length, 1);
});

test('a handshake that is never let in says what to check; an outage is none', async (t) => {
  browser(t);
  const network = fakeNetwork();
  const { states } = client('ws://nowhere', { WebSocket: network.WebSocket });
  const fail = async (count) => (await network.sockets.find(() => true, count)).onclose({ code: 1006, reason: '' });
  for (const count of [0, 1, 2]) await fail(count);
  const waits = () => states.items.filter(({ state }) => state === 'waiting');
  assert.deepEqual(waits().map(({ code }) => code), [1006, 1006, 'handshake_failed']);
  for (const word of ['URL', 'TLS', 'ALLOWED_ORIGINS', 'https://page.example']) assert.ok(waits()[2].reason.includes(word));
  (await network.sockets.find(() => true, 3)).open();
  await fail(3);
  for (const count of [4, 5, 6, 7]) await fail(count);
  assert.deepEqual(waits().slice(3).map(({ code }) => code), Array(5).fill(1006));
});

test('what Node knows of a refused handshake is told', async () => {
  const server = createServer((_, response) => response.end()).listen(0, '127.0.0.1');
  server.on('upgrade', (_, socket) => socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n'));
  await once(server, 'listening');
  ends.push(() => server.close());
  const { states } = client(`ws://127.0.0.1:${server.address().port}`);
  const first = await states.find(({ state }) => state === 'waiting');
  assert.deepEqual([first.code, first.reason], [1006, 'Unexpected server response: 403']);
  const third = await states.find(({ code }) => code === 'handshake_failed');
  assert.match(third.reason, /check the URL.*the last failure: Unexpected server response: 403/);
});

test('a frame that is too large is refused, and is not sent again', async () => {
  for (const told of [true, false]) {
    const { url, sockets } = await gateway({
      send: ({ body }, { say, socket }) => {
        if (body.text.length < 1000) return standard.send();
        if (told) say({ op: 'error', success: false, ...refusal('frame_too_large') });
        socket.close(1009);
      },
    });
    const { chat } = client(url);
    const [large, small] = [chat.send(ROOM, { text: 'x'.repeat(1000) }), chat.send(ROOM, { text: 'x' })];
    await assert.rejects(large, refused('frame_too_large'));
    assert.equal((await small).status, 'stored');
    assert.equal(sockets.items.length, 2);
  }
});

test('a conversation that is taken away is told, and is not joined again', async () => {
  const { url, heard, sockets } = await gateway({
    join: (_, { number }) => (number === 0 ? { last_seq: 0 } : refusal('not_participant')),
  });
  const { chat, lost } = client(url);
  await chat.join(ROOM);
  (await sockets.find(() => true)).socket.close(1012);
  assert.deepEqual(await lost.find(() => true), { id: ROOM, code: 'not_participant' });
  await assert.rejects(chat.join(ROOM), refused('not_participant'));
  (await sockets.find(({ number }) => number === 1)).socket.close(1012);
  await heard.find(({ op, connection }) => op === 'auth' && connection === 2);
  await chat.ack(ROOM, 1);
  assert.equal(heard.items.filter(({ op, connection }) => op === 'join' && connection === 2).length, 0);
});

test('the word of the gateway takes a conversation away, not an event that may be an old one', async () => {
  const joins = [{ last_seq: 0 }, { last_seq: 1, resumed: true }, refusal('not_participant')];
  const { url, heard, sockets } = await gateway({ join: () => joins.shift() });
  const { chat, events, lost } = client(url);
  await chat.join(ROOM);
  const { say } = await sockets.find(() => true);
  const taken = { op: 'join', success: false, ...refusal('not_participant'), conversation_id: ROOM };
  say({ op: 'event', type: 'participant.removed', event_id: 1, user_id: USER, conversation_id: ROOM });
  say(created(1));
  await reachedSeq(events, 1);
  say(taken);
  await heard.find(({ op, after_seq }) => op === 'join' && after_seq === 1);
  say(created(2));
  await reachedSeq(events, 2);
  assert.equal(lost.items.length, 0, 'the gateway was not sure, and let it back in');
  say({ ...taken, conversation_id: '33333333-3333-4333-8333-333333333333' });
  say(taken);
  assert.deepEqual(await lost.find(() => true), { id: ROOM, code: 'not_participant' });
  assert.equal(heard.items.filter(({ op }) => op === 'join').length, 3);
});

test('a position that the gateway does not know any more is dropped, and the application is told', async () => {
  let last = 7;
  const { url, heard, sockets } = await gateway({
    join: ({ after_seq: after }) => (after > last ? refusal('unknown_message') : { last_seq: last, ...(after !== undefined && { resumed: true }) }),
  });
  const { chat, events, lost, resets, seqs } = client(url);
  assert.equal((await chat.join(ROOM, { afterSeq: 9 })).last_seq, 7);
  const first = await sockets.find(() => true);
  first.say({ op: 'event', type: 'other', event_id: 1, conversation_id: ROOM });
  first.say(created(8));
  await reachedSeq(events, 8);
  last = 3;
  first.socket.close(1012);
  await resets.find((id) => id === ROOM, 1);
  const { say } = await sockets.find(({ number }) => number === 1);
  await heard.find(({ op, after_seq, connection }) => op === 'join' && after_seq === undefined && connection === 1);
  say({ op: 'event', type: 'other', event_id: 1, conversation_id: ROOM });
  say(created(4));
  await reachedSeq(events, 4);
  assert.deepEqual([seqs(), chat.lastSeq(ROOM), lost.items], [[undefined, 8, undefined, 4], 4, []]);
});

test('what was left stays left', async () => {
  const { url, heard, sockets } = await gateway({ leave: () => refusal('not_joined') });
  const { chat } = client(url);
  await chat.join(ROOM);
  await chat.leave(ROOM);
  (await sockets.find(() => true)).socket.close(1012);
  await heard.find(({ connection }) => connection === 1);
  assert.equal((await chat.history(ROOM, { beforeSeq: 5, limit: 2 })).has_more, false);
  assert.deepEqual(heard.items.map(({ op }) => op), ['auth', 'join', 'leave', 'auth', 'history']);
});

const roomNumber = (at) => ROOM.slice(0, -4) + String(at).padStart(4, '0');
const roomNumbers = (count) => Array.from({ length: count }, (_, at) => roomNumber(at));
/** A `join`, as a list or single, of which `each` answers the entries. */
const listJoin = (each) => (frame, peer) => {
  if (!frame.conversations) return { conversation_id: frame.conversation_id, ...each(frame, peer) };
  const answered = frame.conversations.map((entry) => [entry, each(entry, peer)]);
  const entry = ([{ conversation_id }, reply]) => ({ conversation_id, conversationId: conversation_id, success: !reply.code, ...reply });
  return { conversations: answered.map(entry) };
};
const joined = ({ after_seq }) => ({ last_seq: after_seq ?? 0, ...(after_seq !== undefined && { resumed: true }) });
const cost = ({ conversations }) => Math.ceil((conversations?.length ?? 1) / LIMITS.joins_per_frame);

/** A gateway's rate limit: the answers of an ordinary one, unless a frame comes too fast. */
function limited(limits, answers, told = limits, clock = performance) {
  let [tokens, since] = [limits.frames_burst, clock.now()];
  const refusals = [];
  const all = { ...standard, ...answers, auth: () => ({ userId: USER, limits: told }) };
  const guarded = Object.entries(all).map(([op, answer]) => {
    const guard = (frame, peer) => {
      const now = clock.now();
      tokens = Math.min(limits.frames_burst, tokens + ((now - since) * limits.frames_per_second) / 1000);
      since = now;
      const price = op === 'join' ? cost(frame) : 1;
      if (op !== 'auth' && tokens < price) {
        refusals.push(op);
        return refusal('rate_limited', { retry_after_ms: Math.ceil(((price - tokens) * 1000) / limits.frames_per_second) });
      }
      if (op !== 'auth') tokens -= price;
      return answer(frame, peer);
    };
    return [op, guard];
  });
  return { answers: Object.fromEntries(guarded), refusals };
}

test('a thousand rooms come back in lists, behind what was to be sent, and nothing is refused', async () => {
  const limits = { ...LIMITS, frames_per_second: 50 };
  const send = (_, { number, socket }) => (number === 0 ? void socket.terminate() : standard.send());
  const { answers, refusals } = limited(limits, { join: listJoin(joined), send });
  const { url, heard, sockets } = await gateway(answers);
  const { chat, seqs, events } = client(url);
  const rooms = roomNumbers(1000);
  await Promise.all(rooms.map((room) => chat.join(room)));
  const begun = heard.items.length;
  // The gateway goes with a send unanswered.
  await chat.send(rooms[7], { text: 'pending' });
  const { say } = await sockets.find(({ number }) => number === 1);
  await chat.send(rooms[8], {});
  await heard.find(({ op, connection, conversations }) => op === 'join' && connection === 1 && conversations?.at(-1).conversation_id === rooms.at(-1));
  const again = heard.items.slice(begun).filter(({ connection }) => connection === 1);
  const lists = again.filter(({ op }) => op === 'join').map(({ conversations }) => conversations);
  assert.deepEqual(lists.flat(), rooms.map((conversation_id) => ({ conversation_id, after_seq: 0 })));
  assert.deepEqual(again.slice(0, 2).map(({ op }) => op), ['auth', 'send'], 'sends go before joins');
  assert.ok(lists.every(({ length }) => length <= 500) && again.length <= 12, `${again.length} frames`);
  for (const room of rooms) say({ ...created(1), conversation_id: room });
  await events.find(({ conversation_id }) => conversation_id === rooms.at(-1));
  assert.deepEqual([seqs().length, refusals], [1000, []]);
});

test('more frames than the rate allows wait for their turn, none is refused, and all are answered', async () => {
  const limits = { ...LIMITS, frames_per_second: 400, frames_burst: 10 };
  const { answers, refusals } = limited(limits, {});
  const { url } = await gateway(answers);
  const { chat } = client(url);
  await Promise.all(roomNumbers(100).map((room) => chat.send(room, {})));
  assert.deepEqual(refusals, []);
});

test('who shares the rate with other devices waits as long as the gateway says, and floods nobody', async () => {
  const clock = heldClock();
  // What they leave of it.
  const left = { ...LIMITS, frames_per_second: 20, frames_burst: 5 };
  const { answers, refusals } = limited(left, {}, { ...LIMITS, frames_per_second: 200 }, clock);
  const network = fakeNetwork(answers);
  const { chat } = client('ws://nowhere', { clock, WebSocket: network.WebSocket });
  (await network.sockets.find(() => true)).open();
  let answered = 0;
  for (const room of roomNumbers(400)) chat.send(room, {}).then(() => (answered += 1));
  for (let seconds = 0; answered < 400 && seconds < 100; seconds += 1) {
    clock.advance(1000);
    await new Promise(setImmediate);
  }
  assert.equal(answered, 400);
  assert.ok(refusals.length > 0 && refusals.length < 400 / 3 + 10, `${refusals.length} refused`);
});

test('a refused read holds back reads alone; any other rate limit holds back everything', async () => {
  const clock = heldClock();
  const order = [];
  let strict = ['history'];
  const answer = (op) => (frame) => {
    order.push(op);
    const isRefused = strict[0] === op && strict.shift();
    return isRefused ? refusal('rate_limited', { retry_after_ms: 200 }) : standard[op](frame);
  };
  const network = fakeNetwork({ ...standard, history: answer('history'), send: answer('send'), ack: answer('ack') });
  const { chat } = client('ws://nowhere', { clock, WebSocket: network.WebSocket });
  (await network.sockets.find(() => true)).open();
  const reading = [chat.history(ROOM), chat.history(ROOM)];
  await chat.ack(ROOM, 1);
  assert.deepEqual(order.splice(0), ['history', 'ack']);
  clock.advance(400);
  await Promise.all(reading);
  assert.deepEqual(order.splice(0), ['history', 'history']);
  strict = ['ack'];
  const others = [chat.ack(ROOM, 2), chat.history(ROOM), chat.send(ROOM, {})];
  assert.deepEqual(order.splice(0), ['ack']);
  clock.advance(400);
  await Promise.all(others);
  assert.deepEqual(order.sort(), ['ack', 'history', 'send']);
});

test('of a list each room has its own answer, and what is no entry hinders nobody', async () => {
  const [gone, late, wrong] = [roomNumber(3), roomNumber(4), 'no-uuid'];
  let asked = 0;
  const each = ({ conversation_id: id }) => {
    if (id === gone) return refusal('not_participant');
    return id === late && ++asked === 1 ? refusal('unavailable') : { last_seq: 0 };
  };
  const answer = listJoin(each);
  const bad = ({ conversation_id, conversations }) => [conversation_id, ...(conversations ?? []).map((entry) => entry.conversation_id)].includes(wrong);
  const { url, heard } = await gateway({ join: (frame, peer) => (bad(frame) ? refusal('invalid_field') : answer(frame, peer)) });
  const { chat } = client(url);
  const rooms = [...roomNumbers(40), wrong];
  const results = await Promise.allSettled(rooms.map((room) => chat.join(room)));
  const refused = results.flatMap(({ reason }, at) => (reason ? [[rooms[at], reason.code]] : []));
  assert.deepEqual(refused, [[gone, 'not_participant'], [wrong, 'invalid_field']]);
  assert.ok(asked >= 2 && heard.items.length < 20, `${heard.items.length} frames`);
});

test('a list fits into a frame, and a send that does not is refused unasked', async () => {
  const limits = { ...LIMITS, max_frame_bytes: 1024 };
  const { url, heard, sockets } = await gateway({ auth: () => ({ userId: USER, limits }), join: listJoin(joined) });
  const { chat } = client(url);
  await Promise.all(roomNumbers(60).map((room) => chat.join(room, { afterSeq: 0 })));
  const sizes = heard.items.map(({ connection, ...frame }) => JSON.stringify(frame).length);
  assert.ok(Math.max(...sizes) <= 1024 && heard.items.length < 12, sizes.join());
  await assert.rejects(chat.send(ROOM, { text: '가'.repeat(400) }), refused('frame_too_large'));
  assert.equal((await chat.send(ROOM, {})).status, 'stored');
  assert.deepEqual([sockets.items.length, heard.items.filter(({ op }) => op === 'send').length], [1, 1]);
});

test('a busy conversation leaves room for others', async () => {
  const order = [];
  const { url } = await gateway({ send: ({ body }) => (order.push(body.n), standard.send()) });
  const { chat } = client(url);
  const rooms = Array.from({ length: 12 }, (_, at) => ROOM.slice(0, -2) + String(at).padStart(2, '0'));
  await Promise.all(rooms.flatMap((room, n) => Array.from({ length: 20 }, () => chat.send(room, { n }))));
  assert.equal(new Set(order.slice(0, 30)).size, 12);
});

test('what a callback throws is reported, and does not break the connection', async (t) => {
  const { url, sockets } = await gateway();
  const thrown = [];
  const onEvent = (event) => {
    thrown.push(event.message.seq);
    throw new Error('the application');
  };
  const reported = t.mock.method(console, 'error', () => {});
  const { chat } = client(url, { onEvent });
  await chat.join(ROOM);
  (await sockets.find(() => true)).say(created(1));
  await chat.ack(ROOM, 101);
  assert.equal(reported.mock.calls[0].arguments[0].message, 'the application');
  assert.deepEqual([thrown, sockets.items.length], [[1], 1]);
});
