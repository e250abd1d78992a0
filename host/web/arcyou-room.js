// What a screen shows of one conversation: messages in their order, with edits, deletions and reactions, and what is being sent.
//
//   const room = new ArcYouRoom(chat, conversation);
//   room.subscribe(() => draw(room.snapshot()));
//   room.send({ text: 'Hello!' });
//
// In React: useSyncExternalStore(room.subscribe, room.snapshot). Snapshots and their messages are frozen, and one that has not
// changed is the same object as before. The room joins the conversation itself.
import { newKey } from './arcyou-client.js';

/**
 * @typedef {import('./arcyou-client.js').ArcYouClient} ArcYouClient
 * @typedef {import('./arcyou-client.js').ArcYouError} ArcYouError
 * @typedef {import('./arcyou-client.js').Message} Message
 * @typedef {import('./arcyou-client.js').Reaction} Reaction
 * @typedef {import('./arcyou-client.js').Sent} Sent
 * @typedef {import('./arcyou-client.js').Edited} Edited
 * @typedef {import('./arcyou-client.js').Deleted} Deleted
 * @typedef {import('./arcyou-client.js').Reacted} Reacted
 * @typedef {{ key: string, own: boolean, reactions: readonly Reaction[] }} Shown `key` names a message on the screen: it stays when what
 *   was sent becomes a message.
 * @typedef {Readonly<Omit<Message, 'n' | 'reactions'> & { n?: number, state: 'stored' } & Shown>} StoredItem `n` is missing for the moment
 *   between the reply to a send and its event.
 * @typedef {Readonly<{ state: 'sending' | 'failed' | 'held' | 'discarded', id: null, seq: null, conversation_id: string,
 *   sender_id: string | undefined, body: Record<string, any>, created_at: string, reply_to?: number, error?: ArcYouError,
 *   held_id?: number } & Shown>} PendingItem What was sent and is no message, or not yet: `error` says why it failed.
 * @typedef {StoredItem | PendingItem} Item
 * @typedef {object} Snapshot
 * @property {'loading' | 'ready' | 'lost'} status `lost`: the conversation could not be read or joined, or was taken away.
 * @property {ArcYouError} [error] Of `lost`.
 * @property {readonly Item[]} messages By their place, and at the end what is pending, in the order of the sends.
 * @property {boolean} hasOlder Whether there are older ones, for `loadOlder`.
 * @property {boolean} loadingOlder
 */

const NOTHING = Object.freeze([]);
const isAlike = (pending, { body }) => JSON.stringify(pending.body) === JSON.stringify(body);
/** A message that was there when it was sent is another one. What was sent before anything was read is known by its text. */
const mayBe = (pending, message) => (pending.sentAfter === undefined ? isAlike(pending, message) : message.seq > pending.sentAfter);
const byCount = (a, b) => b.count - a.count || (a.reaction < b.reaction ? -1 : 1);

/** Messages of a conversation and the changes to them: pure, and right whatever comes twice. */
class Timeline {
  /** By their place. */
  entries = [];
  /** Whether there are messages before those that are here. */
  hasOlder = false;
  /** The first place that is here. */
  from = Infinity;
  #byId = new Map();

  get(id) {
    return this.#byId.get(id);
  }

  /** A page of the history, older than all that is here. */
  addPage({ messages, as_of_seq: asOf, has_more: hasMore }) {
    for (const { reactions, ...message } of messages) {
      this.from = Math.min(this.from, message.seq);
      const entry = this.#put(message, asOf);
      // What was here has had each change since.
      for (const { reaction, count, own } of (entry && reactions) ?? []) entry.reactions.set(reaction, { count, own, seq: asOf });
    }
    this.hasOlder = hasMore;
  }

  /** Whether an event changed anything. */
  apply(event, userId) {
    if (event.overtaken) return false;
    if (event.type === 'message.created') {
      if (this.get(event.message.id)) return this.#take(event.message, event.isReply);
      // It comes with the page that has its neighbours.
      if (this.hasOlder && event.message.seq < this.from) return false;
      this.#put(event.message, event.seq, event.isReply);
      return true;
    }
    if (event.type === 'message.edited' || event.type === 'message.deleted') return this.#take(event.message, event.isReply);
    return this.#react(event, userId);
  }

  /** A new entry, or none if the message is here. Its reactions are those of `asOf`. */
  #put(message, asOf, isReply) {
    if (this.get(message.id)) return void this.#take(message);
    const entry = { message, isReply, asOf, reactions: new Map(), item: undefined };
    this.#byId.set(message.id, entry);
    let at = this.entries.length;
    while (at > 0 && this.entries[at - 1].message.seq > message.seq) at -= 1;
    this.entries.splice(at, 0, entry);
    return entry;
  }

  /** What a reply tells of a message is less than the event that follows it. */
  #take(message, isReply) {
    const entry = this.get(message.id);
    const isNewer = entry && (entry.isReply ? message.version >= entry.message.version : message.version > entry.message.version);
    if (!isNewer) return false;
    Object.assign(entry, { message, isReply, item: undefined });
    if (message.deleted_at) entry.reactions.clear();
    return true;
  }

  #react({ type, seq, message_id: id, user_id: user, reaction, count }, userId) {
    const entry = this.get(id);
    if (!entry || entry.message.deleted_at || seq <= entry.asOf) return false;
    const known = entry.reactions.get(reaction);
    // A reply may have come before the events that precede it.
    if (seq <= known?.seq) return false;
    const own = user === userId ? type === 'reaction.added' : (known?.own ?? false);
    entry.reactions.set(reaction, { count, own, seq });
    entry.item = undefined;
    return true;
  }
}

export class ArcYouRoom {
  #chat; #id; #pageSize;
  #timeline = new Timeline();
  #pending = [];
  /** The key on the screen of messages that were sent here, by their id. */
  #keys = new Map();
  /** The last change that was seen. */
  #seen;
  /** Own messages of which it is not known whether they are what is being sent, by their id: not shown until that is answered. */
  #unsure = new Map();
  #status = 'loading';
  #error;
  #joined = false;
  /** Loads under way, and the events since the first of them began: an answer may be older than they are. */
  #loads = 0;
  #log = [];
  /** What an earlier load says is void. */
  #generation = 0;
  #older;
  #listeners = new Set();
  #snapshot;
  #unlisten;

  /** Loads and joins at once. @param {ArcYouClient} chat @param {string} conversationId @param {{ pageSize?: number }} [options] */
  constructor(chat, conversationId, { pageSize = 50 } = {}) {
    this.#chat = chat;
    this.#id = conversationId.toLowerCase();
    this.#pageSize = pageSize;
    this.#listen();
    this.#load();
  }

  /** Called after each change. @param {() => void} listener @returns {() => void} Ends it. */
  subscribe = (listener) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** @returns {Snapshot} */
  snapshot = () => (this.#snapshot ??= this.#draw());

  /**
   * Shown at once as `sending`. Resolves with the reply once the message is stored, held or discarded, and with nothing if it failed:
   * its `error` says why. @param {Record<string, any>} body @param {{ replyTo?: number }} [options] @returns {Promise<Sent | undefined>}
   */
  send(body, { replyTo } = {}) {
    const key = newKey();
    const copy = JSON.parse(JSON.stringify(body));
    const pending = { key, body: copy, replyTo, createdAt: new Date().toISOString(), sentAfter: this.#seen };
    this.#pending.push(pending);
    return this.#ask(pending);
  }

  /** Sends again what failed. @param {string} key @returns {Promise<Sent | undefined>} */
  async retry(key) {
    const pending = this.#pending.find((other) => other.key === key && other.state === 'failed');
    return pending && this.#ask(pending);
  }

  /** Forgets what failed, or is held or discarded. @param {string} key */
  dismiss(key) {
    const left = this.#pending.filter((pending) => pending.key !== key || pending.state === 'sending');
    if (left.length === this.#pending.length) return;
    this.#pending = left;
    this.#changed();
  }

  /** @param {number} messageId @param {Record<string, any>} body @param {{ ifVersion?: number }} [options] @returns {Promise<Edited>} */
  async edit(messageId, body, options = {}) {
    const copy = JSON.parse(JSON.stringify(body));
    const reply = await this.#chat.edit(this.#id, messageId, copy, options);
    if (reply.status === 'stored') this.#replied('message.edited', reply, { body: reply.body ?? copy, edited_at: reply.edited_at });
    return reply;
  }

  /** @param {number} messageId @param {{ ifVersion?: number }} [options] @returns {Promise<Deleted>} */
  async delete(messageId, options = {}) {
    const reply = await this.#chat.delete(this.#id, messageId, options);
    this.#replied('message.deleted', reply, { body: null, deleted_at: reply.deleted_at });
    return reply;
  }

  /** @param {number} messageId @param {string} reaction @param {{ remove?: boolean }} [options] @returns {Promise<Reacted>} */
  async react(messageId, reaction, { remove = false } = {}) {
    const reply = await this.#chat.react(this.#id, messageId, reaction, { remove });
    // Of a duplicate, the count is of a later time than the seq.
    if (!reply.duplicate) {
      const { seq, count } = reply;
      const type = remove ? 'reaction.removed' : 'reaction.added';
      this.#heard({ type, seq, message_id: messageId, user_id: this.#chat.userId, reaction, count });
    }
    return reply;
  }

  /** Resolves once the next older page is there. @returns {Promise<void>} */
  loadOlder() {
    if (this.#older || this.#status !== 'ready' || !this.#timeline.hasOlder) return this.#older ?? Promise.resolve();
    const older = this.#page({ beforeSeq: this.#timeline.from }, (page) => this.#timeline.addPage(page));
    this.#older = older.finally(() => {
      this.#older = undefined;
      this.#changed();
    });
    this.#changed();
    return this.#older;
  }

  /** Reads everything anew, also after `lost`. */
  reload() {
    this.#listen();
    this.#load();
  }

  /** No more events. The conversation is left unless somebody else listens to it. */
  close() {
    if (!this.#unlisten) return;
    const isLast = this.#unlisten();
    if (isLast && this.#joined) this.#chat.leave(this.#id).catch(() => {});
    this.#unlisten = undefined;
    this.#generation += 1;
    this.#joined = false;
  }

  #listen() {
    const lost = (_, error) => this.#lost(error);
    const reload = () => this.#load();
    const listener = { onEvent: (event) => this.#hear(event), onLost: lost, onReset: reload, onMissed: reload };
    this.#unlisten ??= this.#chat.listen(this.#id, listener);
  }

  /** The newest page, and the events after it. What is shown stays until it is there. */
  async #load() {
    this.#generation += 1;
    const generation = this.#generation;
    if (this.#status !== 'loading') {
      this.#status = 'loading';
      this.#changed();
    }
    try {
      const asOf = await this.#page({}, (page) => this.#begin(page));
      if (asOf === undefined || this.#joined) return;
      this.#joined = true;
      await this.#chat.join(this.#id, { afterSeq: asOf, fill: false });
    } catch (error) {
      if (generation === this.#generation) this.#lost(error);
    }
  }

  /** Asks for a page, and has it taken if it is not void by then, with the events that are later. The `seq` as of which it is. */
  async #page(place, take) {
    const generation = this.#generation;
    this.#loads += 1;
    try {
      const page = await this.#chat.history(this.#id, { ...place, limit: this.#pageSize });
      if (generation !== this.#generation) return undefined;
      for (const message of page.messages) this.#meet(message);
      this.#see(page.as_of_seq);
      take(page);
      for (const event of this.#log) this.#timeline.apply(event, this.#chat.userId);
      this.#changed();
      return page.as_of_seq;
    } finally {
      this.#loads -= 1;
      if (this.#loads === 0) this.#log = [];
    }
  }

  #see(seq) {
    this.#seen = Math.max(this.#seen ?? 0, seq);
  }

  #begin(page) {
    this.#timeline = new Timeline();
    this.#timeline.addPage(page);
    this.#status = 'ready';
    this.#error = undefined;
  }

  #lost(error) {
    this.#generation += 1;
    this.#status = 'lost';
    this.#error = error;
    this.#joined = false;
    this.#changed();
  }

  #hear(event) {
    // Messages of the history are read here.
    if (event.event_id === undefined && event.source !== 'history') this.#heard(event);
  }

  /** An event, or what a reply tells of one. */
  #heard(event) {
    if (this.#note(event)) this.#changed();
  }

  /** Whether it changed anything. */
  #note(event) {
    if (this.#loads > 0) this.#log.push(event);
    this.#see(event.seq);
    const isMet = event.type === 'message.created' && this.#meet(event.message, event.temp_id);
    return this.#timeline.apply(event, this.#chat.userId) || isMet;
  }

  #replied(type, { message_id: id, seq, version }, changes) {
    const known = this.#timeline.get(id)?.message;
    if (known) this.#heard({ type, seq, message: { ...known, ...changes, version, changed_seq: seq }, isReply: true });
  }

  /** A message is seen for the first time: it may be what was sent here. Whether it is. */
  #meet(message, tempId) {
    if (this.#timeline.get(message.id) || message.sender_id !== this.#chat.userId) return false;
    const sent = this.#pending.find(({ key }) => key === tempId) ?? this.#released(message);
    if (sent) return this.#become(sent, message.id);
    // Without the id that a lost reply had: the next reply tells.
    const waiting = this.#pending.find((pending) => pending.state === 'sending' && mayBe(pending, message));
    if (waiting && !this.#keys.has(message.id)) this.#unsure.set(message.id, waiting);
    return false;
  }

  /** Of a message that was held, its text alone tells that it was released. */
  #released(message) {
    return this.#pending.find((pending) => pending.state === 'held' && isAlike(pending, message) && mayBe(pending, message));
  }

  #become(pending, messageId) {
    this.#pending = this.#pending.filter((other) => other !== pending);
    this.#keys.set(messageId, pending.key);
    const entry = this.#timeline.get(messageId);
    if (entry) entry.item = undefined;
    return true;
  }

  async #ask(pending) {
    Object.assign(pending, { state: 'sending', error: undefined, item: undefined });
    this.#changed();
    const { key, body, replyTo } = pending;
    const sending = this.#chat.send(this.#id, body, { replyTo, tempId: key, idempotencyKey: key });
    const reply = await sending.catch((error) => void Object.assign(pending, { state: 'failed', error, item: undefined }));
    for (const [id, waiting] of this.#unsure) if (waiting === pending) this.#unsure.delete(id);
    if (reply?.status === 'stored') this.#stored(pending, reply);
    else if (reply) Object.assign(pending, { state: reply.status, heldId: reply.held_id, item: undefined });
    this.#changed();
    return reply;
  }

  #stored(pending, { message_id: id, seq, created_at, body: replaced }) {
    const { body, replyTo } = pending;
    this.#become(pending, id);
    const whose = { conversation_id: this.#id, sender_id: this.#chat.userId };
    const message = { id, seq, changed_seq: seq, version: 1, ...whose, body: replaced ?? body, created_at };
    if (replyTo !== undefined) message.reply_to = replyTo;
    this.#note({ type: 'message.created', seq, message, isReply: true });
  }

  #changed() {
    this.#snapshot = undefined;
    for (const listener of [...this.#listeners]) listener();
  }

  #draw() {
    const stored = this.#timeline.entries.filter(({ message }) => !this.#unsure.has(message.id)).map((entry) => this.#storedItem(entry));
    const pending = this.#pending.map((item) => this.#pendingItem(item));
    return Object.freeze({
      status: this.#status,
      ...(this.#error && { error: this.#error }),
      messages: Object.freeze([...stored, ...pending]),
      hasOlder: this.#timeline.hasOlder,
      loadingOlder: this.#older !== undefined,
    });
  }

  #storedItem(entry) {
    const { message } = entry;
    const list = () => [...entry.reactions].map(([reaction, { count, own }]) => Object.freeze({ reaction, count, own }));
    const reactions = Object.freeze(list().filter(({ count }) => count > 0).sort(byCount));
    const shown = { key: this.#keys.get(message.id) ?? String(message.id), state: 'stored', own: message.sender_id === this.#chat.userId };
    return (entry.item ??= Object.freeze({ ...message, ...shown, reactions }));
  }

  #pendingItem(pending) {
    const { key, state, body, replyTo, createdAt, error, heldId } = pending;
    const more = { ...(replyTo !== undefined && { reply_to: replyTo }), ...(error && { error }), ...(heldId && { held_id: heldId }) };
    const whose = { conversation_id: this.#id, sender_id: this.#chat.userId, own: true };
    const shown = { key, state, id: null, seq: null, ...whose, body, created_at: createdAt, reactions: NOTHING };
    return (pending.item ??= Object.freeze({ ...shown, ...more }));
  }
}
