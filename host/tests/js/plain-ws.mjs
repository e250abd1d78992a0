// What a team writes first: sockets in rooms, an INSERT, then emit; Redis between processes. It speaks the gateway's frames
// for `auth`, `join` and `send`, and has none of its promises. `make bench-peers` measures the gateway beside it.
//
//   DATABASE_URL=… REDIS_URL=… node plain-ws.mjs     prints its port

import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { createClient } from 'redis';
import { WebSocketServer } from 'ws';

const SELF = randomUUID();
const INSERT = 'INSERT INTO plain_messages (conversation_id, sender_id, body) VALUES ($1, $2, $3) RETURNING id, created_at';

// As many connections as a gateway has.
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 });
const publisher = await createClient({ url: process.env.REDIS_URL }).connect();
const subscriber = await createClient({ url: process.env.REDIS_URL }).connect();

/** Sockets by the conversation that they have joined. */
const rooms = new Map();

function emit(conversation, frame) {
  for (const socket of rooms.get(conversation) ?? []) socket.send(frame);
}

await subscriber.subscribe('plain', (text) => {
  const { from, conversation, frame } = JSON.parse(text);
  if (from !== SELF) emit(conversation, frame);
});

async function send(socket, user, { conversation_id, body, temp_id }) {
  const { rows } = await pool.query(INSERT, [conversation_id, user, body]);
  const [{ id, created_at }] = rows;
  socket.send(JSON.stringify({ op: 'send', success: true, status: 'stored', message_id: id, created_at, temp_id }));
  const message = { id, conversation_id, sender_id: user, body, created_at };
  const frame = JSON.stringify({ op: 'event', type: 'message.created', message });
  emit(conversation_id, frame);
  await publisher.publish('plain', JSON.stringify({ from: SELF, conversation: conversation_id, frame }));
}

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
server.on('connection', (socket) => {
  let user;
  socket.on('message', async (data) => {
    const frame = JSON.parse(data);
    if (frame.op === 'send') return send(socket, user, frame);
    if (frame.op === 'auth') user = frame.token;
    if (frame.op === 'join') {
      const room = rooms.get(frame.conversation_id) ?? new Set();
      rooms.set(frame.conversation_id, room.add(socket));
      socket.on('close', () => room.delete(socket));
    }
    socket.send(JSON.stringify({ op: frame.op, success: true }));
  });
});
server.on('listening', () => console.log(server.address().port));
