// Which subprotocol a client by another author agrees on, and on which paths it finds the gateway.
//
//   node handshakes.mjs ws://127.0.0.1:8080
//
// Exits with 1 when something is not as the protocol says.
import assert from 'node:assert/strict';
import { once } from 'node:events';

import WebSocket from 'ws';

const [url] = process.argv.slice(2);

/** The subprotocol of a socket that works. */
async function agreed(path, offered) {
  const socket = new WebSocket(new URL(path, url), offered);
  await once(socket, 'open');
  socket.send('{"op":"ping","ref":7}');
  const [reply] = await once(socket, 'message');
  assert.deepEqual(JSON.parse(reply), { op: 'ping', success: true, ref: 7 });
  const { protocol } = socket;
  socket.close();
  await once(socket, 'close');
  return protocol;
}

/** The status of an answer that is no socket. */
async function refused(path) {
  const socket = new WebSocket(new URL(path, url));
  const [request, response] = await once(socket, 'unexpected-response');
  request.destroy();
  return response.statusCode;
}

assert.equal(await agreed('/', []), '');
assert.equal(await agreed('/ws', ['arcyou.v1']), 'arcyou.v1');
assert.equal(await agreed('/ws', ['chat', 'arcyou.v1']), 'arcyou.v1');
assert.equal(await agreed('/', ['graphql-ws', 'chat']), 'graphql-ws');
for (const path of ['/chat/ws', '/a/b/c/ws', '/v1/ws', '/ws?room=1']) {
  assert.equal(await agreed(path, ['arcyou.v1']), 'arcyou.v1');
}
for (const path of ['/chat', '/ws/', '/ws/more', '/news', '/v1/news', '/v1x']) {
  assert.equal(await refused(path), 404, path);
}
