// Two users chat, with a WebSocket client by another author: connect, auth, join, send, and what each of them sees.
//
//   node walkthrough.mjs ws://127.0.0.1:8080 CONVERSATION USER_A USER_B [URL_OF_B]
//
// The conversation and its two participants exist; the token of a user is the user's UUID. B's URL may be another gateway.
// Prints one line of JSON; exits with 1 when something is not as the protocol says.
import assert from 'node:assert/strict';

import { Client } from './client.mjs';

const [urlA, CONV_ID, userA, userB, givenUrlB] = process.argv.slice(2);
if (!userB) {
  console.error('usage: walkthrough.mjs URL CONVERSATION USER_A USER_B [URL_OF_B]');
  process.exit(2);
}
// The gateway answers on both paths.
const urlB = givenUrlB ?? new URL('/ws', urlA);

const isReply = (op) => (frame) => frame.op === op && 'success' in frame;
const isEvent = (id) => (frame) => frame.op === 'event' && frame.type === 'message.created' && frame.message.id === id;
const messages = (client) => client.frames.filter((frame) => frame.op === 'event' && frame.type === 'message.created');

/** Holds for an object that has at least these fields. */
function has(actual, expected, what) {
  for (const [name, value] of Object.entries(expected)) {
    assert.deepEqual(actual[name], value, `${what}: ${name} in ${JSON.stringify(actual)}`);
  }
}

/** The first three lines of each user, as they are in the documentation, once the socket is open. */
async function enter(url, name, user) {
  const ws = await Client.open(url, name);
  ws.say({ op: 'auth', token: user });
  has(await ws.frame('the auth reply', isReply('auth')), { success: true, userId: user }, `${name} auth`);
  ws.say({ op: 'join', conversation_id: CONV_ID });
  has(await ws.frame('the join reply', isReply('join')), { success: true, conversation_id: CONV_ID }, `${name} join`);
  return ws;
}

async function send(from, to, user, body, temp_id) {
  from.say({ op: 'send', conversation_id: CONV_ID, body, temp_id });
  const reply = await from.frame('the send reply', (frame) => isReply('send')(frame) && frame.temp_id === temp_id);
  has(reply, { success: true, status: 'stored' }, `${from.name} send`);
  assert.equal(typeof reply.message_id, 'number');
  for (const client of [from, to]) {
    const event = await client.frame('the message', isEvent(reply.message_id));
    has(event, { conversation_id: CONV_ID, conversationId: CONV_ID }, `${client.name} event`);
    has(event.message, { conversation_id: CONV_ID, sender_id: user, body, seq: reply.seq }, `${client.name} message`);
    assert.ok(!Number.isNaN(Date.parse(event.message.created_at)), `${client.name}: created_at`);
  }
  return reply;
}

async function walk() {
  const health = await fetch(new URL('/health', urlA.replace(/^ws/, 'http')));
  assert.equal(health.status, 200, 'GET /health');
  await health.json();

  const wsA = await enter(urlA, 'A', userA);
  const wsB = await enter(urlB, 'B', userB);
  const hello = await send(wsA, wsB, userA, { text: 'Hello!' }, 'temp-123');
  // The answer shows as well that nobody saw the first message twice.
  const answer = await send(wsB, wsA, userB, { text: '안녕하세요 👋' }, 'temp-124');

  for (const client of [wsA, wsB]) {
    const ids = messages(client).map((event) => event.message.id);
    assert.deepEqual(ids, [hello.message_id, answer.message_id], `${client.name}: each message once, in order`);
  }
  assert.equal(answer.seq, hello.seq + 1, 'seq without a hole');
  await wsA.end();
  await wsB.end();
  return { message_ids: [hello.message_id, answer.message_id], seqs: [hello.seq, answer.seq], a: wsA.frames, b: wsB.frames };
}

try {
  console.log(JSON.stringify({ ok: true, ...(await walk()) }));
} catch (error) {
  console.log(JSON.stringify({ ok: false, error: error.message }));
  process.exitCode = 1;
}
// A socket that is still open after a failure does not keep the process.
setTimeout(() => process.exit(), 1000).unref();
