// What a client by another author can get wrong, and some get wrong on purpose: each on a connection of its own.
//
//   node fuzzish.mjs ws://127.0.0.1:8080 USER [MAX_FRAME_BYTES]
//
// Prints a line of JSON for each case: the replies that came, and how the connection was closed (null: it stayed open, and answered).
// Exits with 1 when a case was met with silence, or when the gateway no longer serves an honest client afterwards.
import WebSocket, { Sender } from 'ws';

import { Client, within } from './client.mjs';

const [url, user, limit = '65536'] = process.argv.slice(2);
if (!user) {
  console.error('usage: fuzzish.mjs URL USER [MAX_FRAME_BYTES]');
  process.exit(2);
}
const MAX = Number(limit);
const SILENCE_MS = 10_000;

const CONTINUATION = 0;
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;

/** One frame's bytes, right or wrong, as `ws` itself would make them. */
function frame(opcode, data, { fin = true, rsv1 = false, mask = true } = {}) {
  const options = { fin, rsv1, mask, opcode, readOnly: true };
  return Buffer.concat(Sender.frame(Buffer.from(data), options));
}

/** A text frame's header that promises this many bytes and brings none. */
function promise(length) {
  const header = Buffer.alloc(14);
  header.set([0x81, 0xff]);
  header.writeBigUInt64BE(length, 2);
  return header;
}

/** The payload of a close frame. */
function closing(code, reason = '') {
  const data = Buffer.alloc(2);
  data.writeUInt16BE(code);
  return Buffer.concat([data, Buffer.from(reason)]);
}

const auth = JSON.stringify({ op: 'auth', token: user, ref: 'fuzz' });
const half = [auth.slice(0, 9), auth.slice(9)];
const nested = (depth) => `${'['.repeat(depth)}${']'.repeat(depth)}`;
const text = (value) => [frame(TEXT, value)];

const cases = {
  'valid: two fragments': [frame(TEXT, half[0], { fin: false }), frame(CONTINUATION, half[1])],
  'valid: a ping between two fragments': [
    frame(TEXT, half[0], { fin: false }),
    frame(PING, 'now'),
    frame(CONTINUATION, half[1]),
  ],
  'valid: one byte at a time': [...Buffer.from(auth)].map((byte, index, all) =>
    frame(index === 0 ? TEXT : CONTINUATION, [byte], { fin: index === all.length - 1 }),
  ),
  'binary frame': [frame(BINARY, auth)],
  'empty text': text(''),
  'not JSON': text('hello'),
  'JSON cut short': text(auth.slice(0, -1)),
  'two objects': text(auth + auth),
  null: text('null'),
  number: text('42'),
  array: text('[]'),
  'empty object': text('{}'),
  'op of another type': text('{"op":7}'),
  'unknown op': text('{"op":"fly","ref":"fuzz"}'),
  'auth without a token': text('{"op":"auth"}'),
  'token of another type': text('{"op":"auth","token":{}}'),
  'token that is no user': text('{"op":"auth","token":"nobody"}'),
  'ref of another type': text('{"op":"auth","ref":{},"token":"x"}'),
  'conversation that is no UUID': text('{"op":"join","conversation_id":"../../etc"}'),
  'nested 5,000 deep': text(`{"op":"send","body":${nested(5000)}}`),
  'lone surrogate': text('{"op":"auth","token":"\\ud800"}'),
  'NUL character': text('{"op":"auth","token":"\\u0000"}'),
  'number beyond a double': text('{"op":"send","body":{"n":1e999999}}'),
  'duplicate keys': text(`{"op":"auth","op":"join","token":"${user}"}`),
  'as large as allowed': text(JSON.stringify({ op: 'fly', pad: 'x'.repeat(MAX - 50) })),
  'one frame too large': text(JSON.stringify({ op: 'fly', pad: 'x'.repeat(MAX) })),
  'fragments too large together': Array.from({ length: 9 }, (_, index) =>
    frame(index === 0 ? TEXT : CONTINUATION, 'x'.repeat(MAX / 8), { fin: index === 8 }),
  ),
  'a length of 2^40 promised': [promise(2n ** 40n)],
  'a length of 2^63 promised': [promise(2n ** 63n)],
  'bad UTF-8': [frame(TEXT, Buffer.from([0x7b, 0xff, 0xfe, 0x7d]))],
  'bad UTF-8 over two fragments': [
    frame(TEXT, [0xe2, 0x82], { fin: false }),
    frame(CONTINUATION, [0x41]),
  ],
  'continuation of nothing': [frame(CONTINUATION, auth)],
  'text within a fragmented text': [frame(TEXT, half[0], { fin: false }), frame(TEXT, auth)],
  'reserved opcode': [frame(3, auth)],
  'reserved bit': [frame(TEXT, auth, { rsv1: true })],
  'unmasked frame': [frame(TEXT, auth, { mask: false })],
  'fragmented ping': [frame(PING, 'x', { fin: false })],
  'ping of 126 bytes': [frame(PING, 'x'.repeat(126))],
  'close with one byte': [frame(CLOSE, [3])],
  'close with code 1005': [frame(CLOSE, closing(1005))],
  'close with code 0': [frame(CLOSE, closing(0))],
  'close with bad UTF-8': [frame(CLOSE, Buffer.concat([closing(1000), Buffer.from([0xff])]))],
  'close without a code': [frame(CLOSE, '')],
  'close with 4999': [frame(CLOSE, closing(4999, 'bye'))],
};

/** How the connection was closed, or null if it stays open. A reply may be followed by a close, so something else is asked. */
async function end(client, name) {
  if (client.socket.readyState === WebSocket.OPEN) {
    const asked = client.ask({ op: 'unheard-of' }).then(() => true);
    const answered = await Promise.race([asked, client.closed.then(() => false)]).catch(() => false);
    if (answered) return null;
  }
  return within(client.closed, `${name}: close`, SILENCE_MS);
}

/** Writes the bytes past `ws`, which would not; then waits for a reply or the end. */
async function attempt(name, bytes) {
  const client = await Client.open(url, name);
  const reply = client.frame('a reply', () => true).catch(() => null);
  const socket = client.socket._socket;
  for (const part of bytes) {
    if (socket.writable) socket.write(part);
  }
  const first = await within(Promise.race([reply, client.closed]), name, SILENCE_MS).catch(() => 'silence');
  const closed = first === 'silence' ? null : await end(client, name);
  const replies = client.frames.filter((frame) => !`${frame.ref}`.startsWith('unheard-of'));
  client.socket.terminate();
  return { name, silent: first === 'silence', replies, close: closed };
}

let failed = false;
for (const [name, bytes] of Object.entries(cases)) {
  const outcome = await attempt(name, bytes).catch((error) => ({ name, silent: true, error: error.message }));
  failed ||= outcome.silent;
  console.log(JSON.stringify(outcome));
}

const honest = await Client.open(url, 'an honest client')
  .then((client) => client.ask({ op: 'auth', token: user }))
  .catch((error) => ({ success: false, error: error.message }));
failed ||= honest.success !== true;
console.log(JSON.stringify({ name: 'an honest client afterwards', silent: false, replies: [honest], close: null }));
process.exit(failed ? 1 : 0);
