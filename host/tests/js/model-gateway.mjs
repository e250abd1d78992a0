// A gateway in memory with one conversation, for tests of the client and the room: it keeps the protocol, and does each step when told.
//
// What a client sends waits in its socket until `serve`, and what it is sent waits until `deliver`; committed changes reach the sockets
// with `relay`. So a test decides what overtakes what, within what the protocol allows, and what a broken connection takes along.
export const ROOM = '11111111-1111-4111-8111-111111111111';
export const [ALICE, BOB] = ['22222222-2222-4222-8222-222222222222', '33333333-3333-4333-8333-333333333333'];

const refusal = (code, more) => ({ code, error: `no: ${code}`, ...more });
/** What plugins do, by the first word of a text. */
const VERDICTS = {
  hold: () => ({ status: 'held', message_id: null, seq: null, created_at: null, held_id: 9 }),
  drop: () => ({ status: 'discarded', message_id: null, seq: null, created_at: null }),
  refuse: () => refusal('rejected', { plugin: 'p', reject_code: 'r' }),
};

export class ModelGateway {
  messages = new Map();
  changes = [];
  sockets = [];
  /** The requests that were served. */
  heard = [];
  /** More changes than that are not repeated to who comes back. */
  mostReplayed = Infinity;
  /** Refusals to come, by the request. */
  refusals = {};
  #answers = new Map();
  #relayed = 0;
  #ids = 100;

  /** The class of sockets to hand to a client. */
  get WebSocket() {
    const gateway = this;
    return class {
      constructor() {
        Object.assign(this, { inbox: [], outbox: [], reading: undefined, position: undefined, tempIds: new Map(), isOpen: true });
        gateway.sockets.push(this);
        queueMicrotask(() => this.onopen());
      }

      send(text) {
        this.inbox.push(JSON.parse(text));
      }

      close() {
        this.isOpen = false;
      }
    };
  }

  get socket() {
    return this.sockets.at(-1);
  }

  get lastSeq() {
    return this.changes.length;
  }

  /** The connection breaks: what was under way is gone. */
  cut({ code = 1006 } = {}) {
    const { socket } = this;
    if (!socket?.isOpen) return;
    Object.assign(socket, { isOpen: false, inbox: [], outbox: [] });
    socket.onclose({ code, reason: '' });
  }

  // Steps. Each says whether there was anything to do.

  /** Answers one request; of a history, reads the page first and answers in another step. */
  serve({ socket } = this) {
    if (!socket?.isOpen) return false;
    const { reading } = socket;
    if (reading) {
      socket.reading = undefined;
      socket.outbox.push(reading);
      return true;
    }
    const frame = socket.inbox.shift();
    if (!frame) return false;
    this.heard.push(frame);
    const { op, ref, temp_id } = frame;
    const reply = this.refusals[op]?.shift() ?? this[`_${op}`](frame, socket);
    const { then = [], ...fields } = reply;
    const whole = { op, ref, success: !reply.code, ...(temp_id !== undefined && { temp_id }), ...fields };
    if (op === 'history') socket.reading = whole;
    else socket.outbox.push(whole, ...then);
    return true;
  }

  /** Hands on the next change to who has joined. */
  relay() {
    const change = this.changes[this.#relayed];
    if (!change) return false;
    this.#relayed += 1;
    for (const socket of this.sockets) {
      if (!socket.isOpen || socket.position === undefined || change.seq <= socket.position) continue;
      socket.position = change.seq;
      const tempId = socket.tempIds.get(change.seq);
      socket.outbox.push({ ...change.event, source: 'live', ...(tempId !== undefined && { temp_id: tempId }) });
    }
    return true;
  }

  deliver({ socket } = this) {
    const frame = socket?.isOpen && socket.outbox.shift();
    if (!frame) return false;
    socket.onmessage({ data: JSON.stringify(frame) });
    return true;
  }

  // What others do, and the requests do as well.

  create(user, body, replyTo) {
    const id = ++this.#ids;
    const seq = this.lastSeq + 1;
    const at = new Date(seq * 1000).toISOString();
    const message = { id, n: this.messages.size + 1, seq, changed_seq: seq, version: 1, conversation_id: ROOM, sender_id: user, body, created_at: at };
    if (replyTo !== undefined) message.reply_to = replyTo;
    this.messages.set(id, { message, reactions: new Map() });
    this.#commit('message.created', { message });
    return message;
  }

  edit(user, id, body) {
    return this.#alter(user, id, 'message.edited', { body, edited_at: 'now' });
  }

  delete(user, id) {
    this.messages.get(id).reactions.clear();
    return this.#alter(user, id, 'message.deleted', { body: null, deleted_at: 'now' });
  }

  /** The `seq` of the change, or none if nothing changed. */
  react(user, id, reaction, remove = false) {
    const { reactions } = this.messages.get(id);
    const users = reactions.get(reaction) ?? new Set();
    if (users.has(user) !== remove) return undefined;
    if (remove) users.delete(user);
    else reactions.set(reaction, users.add(user));
    if (users.size === 0) reactions.delete(reaction);
    const type = remove ? 'reaction.removed' : 'reaction.added';
    return this.#commit(type, { message_id: id, user_id: user, reaction, count: users.size });
  }

  /** What a user sees who sees everything. */
  seenBy(user) {
    return [...this.messages.values()].map(({ message, reactions }) => ({ ...message, reactions: this.#counted(reactions, user) }));
  }

  #alter(user, id, type, fields) {
    const entry = this.messages.get(id);
    const { version } = entry.message;
    entry.message = { ...entry.message, ...fields, version: version + 1, changed_seq: this.lastSeq + 1 };
    this.#commit(type, { message: entry.message, user_id: user });
    return entry.message;
  }

  #commit(type, fields) {
    const seq = this.lastSeq + 1;
    const event = { op: 'event', type, seq, conversation_id: ROOM, conversationId: ROOM, ...fields };
    this.changes.push({ seq, id: fields.message?.id ?? fields.message_id, event });
    return seq;
  }

  #counted(reactions, user) {
    const all = [...reactions].map(([reaction, users]) => ({ reaction, count: users.size, own: users.has(user) }));
    return all.sort((a, b) => b.count - a.count || (a.reaction < b.reaction ? -1 : 1));
  }

  /** The changes after a position, as they are repeated: messages as they stand, and nothing of what was overtaken. */
  #replay(after) {
    return this.changes.slice(after).map(({ seq, id, event }) => {
      const { type, reaction, user_id } = event;
      const later = this.changes.slice(seq).filter((change) => change.id === id).map((change) => change.event);
      const isOvertaken = reaction
        ? later.some((other) => other.type === 'message.deleted' || (other.reaction === reaction && other.user_id === user_id))
        : type === 'message.edited' && later.some((other) => other.type === 'message.edited' || other.type === 'message.deleted');
      const base = { op: 'event', type, source: 'backfill', seq, conversation_id: ROOM, conversationId: ROOM };
      if (isOvertaken) return { ...base, message_id: id, overtaken: true };
      return { ...event, ...base, ...(event.message && { message: this.messages.get(id).message }) };
    });
  }

  // Requests.

  _auth({ token }, socket) {
    socket.user = token;
    return { userId: token };
  }

  _ping() {
    return {};
  }

  _join({ after_seq }, socket) {
    const after = after_seq ?? this.lastSeq;
    if (after > this.lastSeq) return refusal('unknown_message');
    socket.position = this.lastSeq;
    const resumed = this.lastSeq - after <= this.mostReplayed;
    const then = resumed ? this.#replay(after) : [];
    return { conversation_id: ROOM, last_seq: this.lastSeq, last_read_id: null, role: 'member', ...(after_seq !== undefined && { resumed }), then };
  }

  _leave(_, socket) {
    socket.position = undefined;
    return {};
  }

  _history({ before_seq: before = Infinity, after_seq: after, limit = 50 }, { user }) {
    const all = this.seenBy(user).map(({ reactions, ...message }) => (reactions.length > 0 ? { ...message, reactions } : message));
    const isForward = after !== undefined;
    const found = isForward ? all.filter(({ seq }) => seq > after) : all.filter(({ seq }) => seq < before).reverse();
    return { messages: found.slice(0, limit), has_more: found.length > limit, as_of_seq: this.lastSeq };
  }

  /** A change once for each key, and with the id of its socket for the event. */
  #once(frame, socket, run) {
    const known = frame.idempotency_key && this.#answers.get(frame.idempotency_key);
    if (known) return { ...known, duplicate: true };
    const reply = run();
    if (frame.idempotency_key && !reply.code) this.#answers.set(frame.idempotency_key, reply);
    if (reply.seq && frame.temp_id !== undefined) socket.tempIds.set(reply.seq, frame.temp_id);
    return reply;
  }

  _send(frame, socket) {
    const [verdict, ...rest] = frame.body.text.split(' ');
    return this.#once(frame, socket, () => {
      if (VERDICTS[verdict]) return VERDICTS[verdict]();
      const body = verdict === 'mask' ? { text: rest.join(' ') } : frame.body;
      const { id, seq, created_at } = this.create(socket.user, body, frame.reply_to);
      return { status: 'stored', message_id: id, seq, created_at, ...(body !== frame.body && { body }) };
    });
  }

  _edit(frame, socket) {
    const run = () => {
      const refused = this.#refused(frame, socket.user);
      if (refused) return refused;
      const { id, changed_seq, version, edited_at } = this.edit(socket.user, frame.message_id, frame.body);
      return { status: 'stored', message_id: id, seq: changed_seq, version, edited_at };
    };
    return this.#once(frame, socket, run);
  }

  _delete(frame, { user }) {
    const known = this.messages.get(frame.message_id)?.message;
    const answer = ({ id, changed_seq, version, deleted_at }) => ({ message_id: id, seq: changed_seq, version, deleted_at });
    if (known?.deleted_at) return { ...answer(known), duplicate: true };
    return this.#refused(frame, user) ?? answer(this.delete(user, frame.message_id));
  }

  _react({ message_id, reaction, remove }, { user }) {
    const entry = this.messages.get(message_id);
    if (!entry) return refusal('unknown_message');
    if (entry.message.deleted_at) return refusal('message_deleted');
    const seq = this.react(user, message_id, reaction, remove);
    const count = entry.reactions.get(reaction)?.size ?? 0;
    return { message_id, reaction, count, seq: seq ?? (remove ? null : this.lastSeq), ...(!seq && { duplicate: true }) };
  }

  #refused({ message_id }, user) {
    const message = this.messages.get(message_id)?.message;
    if (!message) return refusal('unknown_message');
    if (message.sender_id !== user) return refusal('not_author');
    return message.deleted_at && refusal('message_deleted');
  }
}
