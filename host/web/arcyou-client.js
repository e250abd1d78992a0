// The reference client of the ArcYou gateway: one module, no dependencies, for browsers and Node.
//
//   const chat = new ArcYouClient('wss://chat.example.com/ws', { token: () => fetchToken(), onEvent: show });
//   await chat.join(conversation, { afterSeq: lastSeqThatIHave });
//   await chat.send(conversation, { text: 'Hello!' });
//
// A send, edit, delete or react that resolves is dealt with once, in the order of the calls; every change of a joined conversation
// is told once, in the order of `seq`, whatever happens to the connection. `arcyou-room.js` makes of them what a screen shows.

/**
 * @typedef {Record<string, any>} Frame A frame as the protocol has it.
 * @typedef {{ reaction: string, count: number, own: boolean }} Reaction
 * @typedef {object} Message As it stood when it was read.
 * @property {number} id
 * @property {number} n Numbers the messages of a conversation, 1, 2, 3 …
 * @property {number} seq Its place: the number of the change that created it.
 * @property {number} changed_seq The number of its last change.
 * @property {number} version 1, and one more with each edit and the deletion.
 * @property {string} conversation_id
 * @property {string} sender_id
 * @property {Record<string, any> | null} body `null` once it is deleted.
 * @property {string} created_at
 * @property {string} [edited_at]
 * @property {string} [deleted_at]
 * @property {number} [reply_to] The id of the message that it answers.
 * @property {Reaction[]} [reactions] Of pages alone, the most frequent first.
 * @typedef {{ op: 'event', source: 'live' | 'backfill' | 'history', seq: number, conversation_id: string, conversationId: string,
 *   temp_id?: string | number, event_id?: undefined }} OfChange What all changes have. `seq` numbers the changes of a conversation.
 * @typedef {OfChange & { type: 'message.created', message: Message, as_of_seq?: number, overtaken?: undefined }} MessageCreated
 * @typedef {OfChange & { type: 'message.edited' | 'message.deleted', message: Message, user_id: string, overtaken?: undefined }} MessageChanged
 * @typedef {OfChange & { type: 'reaction.added' | 'reaction.removed', message_id: number, user_id: string, reaction: string, count: number,
 *   message?: undefined, overtaken?: undefined }} ReactionChanged `count` is how many there are of this reaction now.
 * @typedef {OfChange & { type: 'message.edited' | 'message.deleted' | 'reaction.added' | 'reaction.removed', message_id: number,
 *   overtaken: true, message?: undefined }} Overtaken A change of which nothing is left to show: a later one says what stands.
 * @typedef {MessageCreated | MessageChanged | ReactionChanged | Overtaken} Change Each once and in order.
 * @typedef {{ op: 'event', type: string, conversation_id: string, conversationId: string, event_id: number,
 *   [field: string]: any }} OtherEvent Everything else that happens: what has an `event_id` is one.
 * @typedef {{ status: 'stored', message_id: number, seq: number, created_at: string } & Answer} Stored
 * @typedef {{ status: 'held' | 'discarded', message_id: null, seq: null, created_at: null, held_id?: number } & Answer} NotStored
 * @typedef {{ duplicate?: boolean, body?: Record<string, any>, temp_id?: string | number }} Answer `body` is there if a plugin replaced
 *   the message's: it is the one that everybody sees.
 * @typedef {Stored | NotStored} Sent
 * @typedef {{ message_id: number, duplicate?: boolean, temp_id?: string | number }} OfMessage
 * @typedef {OfMessage & { status: 'stored', seq: number, version: number, edited_at: string, body?: Record<string, any> }} EditStored
 * @typedef {OfMessage & { status: 'held' | 'discarded', seq: null, version: null, edited_at: null, held_id?: number }} EditNotStored
 * @typedef {EditStored | EditNotStored} Edited
 * @typedef {OfMessage & { seq: number, version: number, deleted_at: string }} Deleted
 * @typedef {OfMessage & { reaction: string, count: number, seq: number | null }} Reacted `seq` is `null` if there was nothing to remove.
 * @typedef {{ conversation_id: string, last_seq: number, last_read_id: number | null, role: string | null, resumed?: boolean }} Joined
 * @typedef {{ messages: Message[], has_more: boolean, as_of_seq: number, has_more_before?: boolean }} Page
 *   What stood when the change `as_of_seq` was the last one.
 * @typedef {'connecting' | 'online' | 'waiting' | 'stopped'} State
 * @typedef {{ code: number | string, reason: string, retryInMs?: number }} Why A close code, or a code of the protocol, or one of the
 *   client: `timeout`, `token`, `auth`, `not_connected`, `reconnect`, and `handshake_failed` if no attempt has got through yet.
 * @typedef {object} Options
 * @property {() => string | Promise<string>} token Asked for a fresh token at each connect, and when one has expired.
 * @property {any} [WebSocket] The constructor, where there is no global one (Node before 22).
 * @property {(event: Change | OtherEvent) => void} [onEvent] Changes, each once and in order, and all other events.
 * @property {(state: State, why?: Why) => void} [onState] `stopped` is for good: `why` says what to put right.
 * @property {(conversationId: string, error: ArcYouError) => void} [onLost] A joined conversation was taken away, or could not be joined again.
 * @property {(conversationId: string) => void} [onReset] The gateway knows fewer changes than were told, as after a database was
 *   restored from a backup: what the application keeps of the conversation is void, and to be read anew with `history`.
 * @property {(conversationId: string) => void} [onMissed] More changes were missed than the gateway repeats. New messages are told all
 *   the same, from the history; how older ones were changed is not, so what is shown of them is to be read anew with `history`.
 * @property {{ baseMs?: number, maxMs?: number }} [backoff] Delays are random, at most `baseMs`, doubled each time up to `maxMs`.
 * @property {number} [tokenTimeoutMs] How long the token callback may take before it is asked again.
 * @property {number} [requestTimeoutMs] Silence after which an unanswered request means that the connection is dead: twice and four
 *   times as long once connections were given up so, since a gateway may be silent for 40 s while its database hangs.
 * @property {number} [idleMs] Silence after which the connection is tried with a `ping`.
 * @property {number} [pingTimeoutMs] Silence after such a `ping` which means that the connection is dead.
 * @property {number} [maxQueued] Requests that may wait for an answer; more are refused with `queue_full`.
 * @property {{ set?: Function, clear?: Function, now?: () => number, random?: () => number }} [clock] For tests. `now` must never go back.
 * @typedef {Pick<Options, 'onEvent' | 'onLost' | 'onReset' | 'onMissed'>} Listener
 */

const ASK_AGAIN = new Set(['unavailable', 'overloaded', 'outcome_unknown', 'rate_limited']);
/** Refusals of a token that a later one may not meet. After any other a reconnect would change nothing. */
const AUTH_AGAIN = new Set([...ASK_AGAIN, 'token_expired', 'token_not_yet_valid', 'token_key_unknown', 'keys_unavailable', 'internal']);
const isFinal = (code) => code === 1002 || code === 1007 || (code >= 4500 && code <= 4999);
/** Connections in a row that were given up for want of an answer; more do not lengthen the patience. */
const MOST_PATIENCE = 2;
/** Handshakes in a row that failed, and none before that went well: this is no outage, and waiting will not help. */
const HANDSHAKES = 3;
/** Unanswered frames at once: what waits here can still change its order, what the gateway has cannot. */
const WINDOW = 8;
/** Sends and other changes go before everything else, but not more than so many in a row while something else waits. */
const CHANGES_IN_ROW = 8;
/** The part of the gateway's frame rate that is used: pongs count as well, and other devices of the user. */
const PART_OF_RATE = 0.9;
/** What the rate is divided by at most, when the user's other devices use up what there is. */
const MOST_SHARERS = 64;
/** What an answer does to that number: so at most one frame in four is refused in the long run, which no gateway takes for a flood. */
const REGAINED = 0.8;
/** What is around the entries of a list in a frame, at most. */
const ENVELOPE_BYTES = 128;
/** What holds until the gateway has told its limits. */
const UNTOLD = { frames_per_second: 0, frames_burst: 1, max_frame_bytes: Infinity, max_join_list: 1, joins_per_frame: 1 };
const MAX_EVENT_IDS = 4096;
// Wrapped, since browsers insist on their own `this`.
const TIMERS = { set: (run, ms) => setTimeout(run, ms), clear: (timer) => clearTimeout(timer) };
// A clock that nobody sets: the pace goes by it.
const CLOCK = { ...TIMERS, now: () => performance.now(), random: () => Math.random() };
/** A random key. `crypto.randomUUID` is missing in pages that did not come over HTTPS. @returns {string} */
export const newKey = () => crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))].join('-');

const isRead = ({ lane }) => lane.startsWith('history ') || lane.startsWith('fill ');
const bytesOf = (text) => new TextEncoder().encode(text).length;
const TOO_LARGE = { success: false, code: 'frame_too_large', error: 'the frame is larger than the gateway allows' };

/** A final refusal. `code` is the protocol's, or `queue_full` or `closed`; `reply` the whole reply, if there was one. */
export class ArcYouError extends Error {
  /** @param {string} code @param {string} message @param {Frame} [reply] */
  constructor(code, message, reply) {
    super(message);
    this.code = code;
    /** @type {Frame | undefined} */
    this.reply = reply;
    /** Of a send or an edit: with it the message can be sent again later, and is stored once. @type {string | undefined} */
    this.idempotencyKey = undefined;
  }
}

/**
 * When frames may be sent: a token bucket that is a little smaller and slower than the one that the gateway has for the user.
 * It never holds more than the gateway's: what is unanswered may not have arrived, so it is still taken from what may gather.
 */
class Pace {
  #now;
  #unanswered = 0;
  /** Frames a millisecond; 0: no limit. */
  #rate = 0;
  #burst = Infinity;
  #tokens = Infinity;
  #refilledAt = 0;
  #pausedUntil = -Infinity;
  #sharers = 1;

  /** @param {() => number} now */
  constructor(now) {
    this.#now = now;
  }

  /** What the gateway allows from now on. What was used before a reconnect stays used: the gateway remembers it too. */
  allow({ frames_per_second: perSecond, frames_burst: burst }) {
    this.#refill();
    this.#rate = (PART_OF_RATE * perSecond) / 1000;
    this.#burst = perSecond === 0 ? Infinity : Math.max(1, Math.floor(PART_OF_RATE * burst));
    this.#tokens = perSecond === 0 ? Infinity : Math.min(this.#tokens, this.#burst);
  }

  /** Frames that may be sent now. */
  get frames() {
    this.#refill();
    return this.#now() < this.#pausedUntil ? 0 : Math.floor(this.#tokens);
  }

  /** How long until one more may be sent. */
  get waitMs() {
    this.#refill();
    const missing = this.#tokens < 1 ? ((1 - this.#tokens) * this.#sharers) / this.#rate : 0;
    return Math.max(missing, this.#pausedUntil - this.#now());
  }

  spend(frames) {
    this.#refill();
    this.#tokens -= frames;
    this.#unanswered += frames;
  }

  answered(frames) {
    this.#refill();
    this.#unanswered -= frames;
  }

  /** Nothing that was asked will be answered. */
  lost() {
    this.#refill();
    this.#unanswered = 0;
  }

  /** The gateway's bucket is empty, so others drink from it. Frames that were under way meanwhile say nothing new. */
  refused(waitMs) {
    const now = this.#now();
    if (now >= this.#pausedUntil) this.#sharers = Math.min(MOST_SHARERS, this.#sharers * 2);
    if (this.#rate > 0) this.#tokens = Math.min(this.#tokens, 0);
    this.#pausedUntil = Math.max(this.#pausedUntil, now + waitMs);
  }

  /** A little more of the rate is there again. */
  admitted() {
    this.#sharers = Math.max(1, this.#sharers * REGAINED);
  }

  #refill() {
    const now = this.#now();
    const more = ((now - this.#refilledAt) * this.#rate) / this.#sharers;
    this.#refilledAt = now;
    this.#tokens = Math.max(this.#tokens, Math.min(this.#burst - this.#unanswered, this.#tokens + more));
  }
}

export class ArcYouClient {
  /** @type {State} */ state = 'connecting';
  /** The user that the token speaks for, once that is known. @type {string | undefined} */ userId;
  #socket = null;
  /** Whether requests may be asked: the gateway has accepted the token. */
  #ready = false;
  #renewing = false;
  #token = '';
  /** The attempt that is under way; one that another has overtaken is dropped. */
  #connecting;
  /** The last failure that answered no request; a close code may follow, and this says more. */
  #complaint = null;
  #attempt = 0;
  /** The timer of the next attempt. */
  #retry;
  /** Whether this connection was opened, and whether any was. */
  #opened = false;
  #everOpened = false;
  #handshakes = 0;
  /** What the last socket said of its failure; browsers say nothing. */
  #failure = '';
  /** Whether a ping is to prove the connection, and how many were given up without an answer. */
  #probing = false;
  #timeouts = 0;
  #listening = new AbortController();
  #onlineSince = Infinity;
  /** Of each lane the first request is asked; the others wait for its final answer. */
  #lanes = new Map();
  #unanswered = new Map();
  #queued = 0;
  #nextRef = 1;
  #limits = UNTOLD;
  /** @type {Pace} */ #pace;
  #changesInRow = 0;
  /** Whether a join is unanswered: the next list of them waits, so that changes come between. */
  #joining = false;
  /** Until then the gateway has no stored messages for this user. */
  #readsFrom = -Infinity;
  /** When what waits may be asked again: one timer for everything. */
  #pumpTimer;
  #pumping = false;
  #toPump = false;
  /** Joined conversations; `seq` is the last change that was told. */
  #rooms = new Map();
  /** Of each conversation those who listen to it alone. */
  #listeners = new Map();
  #eventIds = new Set();
  #timers = new Set();
  #watchdog;
  #url; #options; #clock;

  /** Connects at once. @param {string | (() => string)} url A function may name another gateway each time. @param {Options} options */
  constructor(url, options) {
    this.#url = url;
    this.#options = { tokenTimeoutMs: 30_000, requestTimeoutMs: 10_000, idleMs: 20_000, pingTimeoutMs: 5000, maxQueued: 1000, ...options };
    this.#options.backoff = { baseMs: 500, maxMs: 30_000, ...options.backoff };
    this.#clock = { ...CLOCK, ...options.clock };
    this.#pace = new Pace(this.#clock.now);
    const { signal } = this.#listening;
    globalThis.addEventListener?.('online', () => this.#wake(), { signal });
    const { document } = globalThis;
    document?.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && this.#wake(), { signal });
    this.#connect();
  }

  /**
   * Events come from now on, across reconnects; with `afterSeq` every change after that one comes first. `fill: false`: what is missed
   * for good (see `onMissed`) is not filled with messages of the history.
   * @param {string} conversationId @param {{ afterSeq?: number, fill?: boolean }} [from] @returns {Promise<Joined>}
   */
  join(conversationId, { afterSeq, fill = true } = {}) {
    const id = conversationId.toLowerCase();
    const known = this.#rooms.get(id);
    const room = known ?? { id, seq: afterSeq, fills: fill, fill: undefined, isVoid: false };
    this.#rooms.set(id, room);
    return this.#join(room, true).catch((error) => {
      if ((error.reply || !known) && this.#rooms.get(id) === room) this.#rooms.delete(id);
      throw error;
    });
  }

  /** The `seq` of the last change that was told; a later client's `afterSeq`. @param {string} conversationId @returns {number | undefined} */
  lastSeq(conversationId) {
    return this.#rooms.get(conversationId.toLowerCase())?.seq;
  }

  /**
   * Callbacks for one conversation, called after those of the options. Joins nothing.
   * @param {string} conversationId @param {Listener} listener @returns {() => boolean} Ends it, and says whether it was the last.
   */
  listen(conversationId, listener) {
    const id = conversationId.toLowerCase();
    this.#listeners.set(id, [...(this.#listeners.get(id) ?? []), listener]);
    return () => {
      const left = (this.#listeners.get(id) ?? []).filter((other) => other !== listener);
      if (left.length > 0) this.#listeners.set(id, left);
      else this.#listeners.delete(id);
      return left.length === 0;
    };
  }

  /** @param {string} conversationId @returns {Promise<Frame | undefined>} */
  leave(conversationId) {
    const id = conversationId.toLowerCase();
    this.#rooms.delete(id);
    return this.#request(`room ${id}`, () => ({ op: 'leave', conversation_id: id })).catch((error) => {
      // A reconnect has left it already.
      if (error.code !== 'not_joined') throw error;
    });
  }

  /**
   * Resolves with the reply. The event of the message has the `tempId` too, unless the connection broke meanwhile.
   * @param {string} conversationId @param {object} body
   * @param {{ replyTo?: number, idempotencyKey?: string, tempId?: string | number }} [options] @returns {Promise<Sent>}
   */
  async send(conversationId, body, { replyTo, idempotencyKey = newKey(), tempId } = {}) {
    return this.#change(conversationId, { op: 'send', body, reply_to: replyTo, idempotency_key: idempotencyKey, temp_id: tempId });
  }

  /**
   * With `ifVersion` it is refused as `version_conflict` if the message has another one by then.
   * @param {string} conversationId @param {number} messageId @param {object} body
   * @param {{ ifVersion?: number, idempotencyKey?: string, tempId?: string | number }} [options] @returns {Promise<Edited>}
   */
  async edit(conversationId, messageId, body, { ifVersion, idempotencyKey = newKey(), tempId } = {}) {
    const what = { op: 'edit', message_id: messageId, body, if_version: ifVersion };
    return this.#change(conversationId, { ...what, idempotency_key: idempotencyKey, temp_id: tempId });
  }

  /**
   * With `ifVersion` it is refused as `version_conflict` if the message has another one by then.
   * @param {string} conversationId @param {number} messageId
   * @param {{ ifVersion?: number, tempId?: string | number }} [options] @returns {Promise<Deleted>}
   */
  async delete(conversationId, messageId, { ifVersion, tempId } = {}) {
    // Needs no key, as little as `react`: what is done already is answered with success.
    return this.#change(conversationId, { op: 'delete', message_id: messageId, if_version: ifVersion, temp_id: tempId });
  }

  /**
   * @param {string} conversationId @param {number} messageId @param {string} reaction An emoji, or another text of at most 64 characters.
   * @param {{ remove?: boolean, tempId?: string | number }} [options] @returns {Promise<Reacted>}
   */
  async react(conversationId, messageId, reaction, { remove, tempId } = {}) {
    return this.#change(conversationId, { op: 'react', message_id: messageId, reaction, remove, temp_id: tempId });
  }

  /** @param {string} conversationId @param {number} lastReadId A message's id. @returns {Promise<Frame>} */
  ack(conversationId, lastReadId) {
    return this.#request(`ack ${conversationId}`, () => ({ op: 'ack', conversation_id: conversationId, last_read_id: lastReadId }));
  }

  /**
   * A page of messages: the newest, or those before or after a place, or around it; with `thread` the answers to that message alone.
   * @param {string} conversationId
   * @param {{ beforeSeq?: number, afterSeq?: number, aroundSeq?: number, thread?: number, limit?: number }} [page] @returns {Promise<Page>}
   */
  history(conversationId, { beforeSeq, afterSeq, aroundSeq, thread, limit } = {}) {
    const place = { before_seq: beforeSeq, after_seq: afterSeq, around_seq: aroundSeq };
    return this.#request(`history ${this.#nextRef++}`, () => ({ op: 'history', conversation_id: conversationId, ...place, thread, limit }));
  }

  /** Connects anew at once, without waiting for the next attempt: for an application that knows that the network has changed. */
  reconnect() {
    if (this.state === 'stopped') return;
    if (this.state !== 'waiting') this.#lost('reconnect', 'asked for by the application', false, 0);
    this.#retryNow();
  }

  /** For good; what is unanswered is rejected with `closed`. */
  close() {
    this.#lost(1000, 'closed by the application', true);
  }

  /** Changes of a conversation are asked one at a time: so they stay in order, also if they have to be repeated. */
  #change(conversationId, whole) {
    const id = conversationId.toLowerCase();
    // A copy: what the caller changes later must not change what is sent again under the same key.
    const frame = JSON.parse(JSON.stringify({ ...whole, conversation_id: id }));
    return this.#request(`change ${id}`, () => frame).catch((error) => {
      throw Object.assign(error, { idempotencyKey: frame.idempotency_key });
    });
  }

  // The connection.

  async #connect() {
    this.#complaint = null;
    this.#opened = false;
    this.#failure = '';
    const attempt = (this.#connecting = Symbol());
    this.#enter('connecting');
    let socket;
    try {
      const token = await this.#freshToken();
      if (attempt !== this.#connecting) return;
      this.#token = token;
      socket = new (this.#options.WebSocket ?? WebSocket)(typeof this.#url === 'function' ? this.#url() : this.#url);
    } catch (error) {
      return attempt === this.#connecting && this.#lost('not_connected', String(error));
    }
    const mine = (run) => (event) => socket === this.#socket && run(event);
    this.#socket = socket;
    socket.onopen = mine(() => {
      this.#opened = this.#everOpened = true;
      this.#authenticate(() => this.#lost('auth', 'the token was refused'));
    });
    socket.onmessage = mine(({ data }) => this.#receive(JSON.parse(data)));
    socket.onclose = mine(({ code, reason }) => this.#lost(code, reason));
    // A close follows.
    socket.onerror = mine(({ message }) => (this.#failure = message ?? ''));
    this.#watch();
  }

  /** The network is back, or the page is looked at again: what was waited for may be there, and what was there may be dead. */
  #wake() {
    if (this.state === 'waiting') this.#retryNow();
    else if (this.state !== 'stopped' && this.#socket) this.#probe();
  }

  #retryNow() {
    // The application's callback may have decided otherwise.
    if (this.state !== 'waiting') return;
    this.#cancel(this.#retry);
    this.#connect();
  }

  async #freshToken() {
    let timer;
    const late = new Promise((_, reject) => {
      timer = this.#later(this.#options.tokenTimeoutMs, () => reject(new Error('the token callback did not answer')));
    });
    try {
      return await Promise.race([this.#options.token(), late]);
    } finally {
      this.#cancel(timer);
    }
  }

  #authenticate(refused) {
    this.#ask({ op: 'auth', token: this.#token }, (reply) => {
      this.#complaint = reply.success ? null : reply;
      if (!reply.success) return AUTH_AGAIN.has(reply.code) ? refused() : this.#lost(reply.code, reply.error, true);
      this.userId = reply.userId;
      this.#limits = { ...UNTOLD, ...reply.limits };
      this.#pace.allow(this.#limits);
      this.#renewing = false;
      const first = this.#onlineSince === Infinity;
      if (first) {
        this.#onlineSince = this.#clock.now();
        // Before anything is asked, so that all of them are there for the first list.
        this.#rejoin();
      }
      this.#ready = true;
      if (first) this.#enter('online');
      this.#pump();
    });
  }

  /** The token has ended: nothing is asked until a fresh one is accepted. */
  async #renew() {
    if (this.#renewing) return;
    const socket = this.#socket;
    this.#ready = false;
    this.#renewing = true;
    try {
      const token = await this.#freshToken();
      if (socket !== this.#socket) return;
      this.#token = token;
      this.#authenticate(() => this.#lost('auth', 'the fresh token was refused'));
    } catch (error) {
      if (socket === this.#socket) this.#lost('token', String(error));
    }
  }

  /** Finds a dead connection, of which nobody else tells: called whenever something is heard. */
  #watch() {
    this.#cancel(this.#watchdog);
    const { requestTimeoutMs, idleMs, pingTimeoutMs } = this.#options;
    const giveUp = () => {
      this.#timeouts += 1;
      this.#lost('timeout', 'the gateway did not answer');
    };
    const patience = requestTimeoutMs * 2 ** Math.min(this.#timeouts, MOST_PATIENCE);
    const awaited = !this.#ready || this.#unanswered.size > 0;
    if (this.#probing) this.#watchdog = this.#later(pingTimeoutMs, giveUp);
    else this.#watchdog = awaited ? this.#later(patience, giveUp) : this.#later(idleMs, () => this.#probe());
  }

  /** Anything that is heard soon proves that the connection lives. */
  #probe() {
    if (this.#probing) return;
    this.#probing = true;
    if (this.#opened) this.#ask({ op: 'ping' }, () => {});
    this.#watch();
  }

  #lost(code, reason, final = isFinal(code), delay = undefined) {
    if (code === 1009 && this.#complaint?.code !== 'frame_too_large') this.#refuseLargest();
    if (this.state === 'stopped') return;
    const [socket, { baseMs, maxMs }] = [this.#socket, this.#options.backoff];
    // Let go of at once: the closing handshake of a dead connection takes long.
    this.#socket = null;
    this.#connecting = undefined;
    this.#ready = this.#renewing = this.#joining = this.#probing = false;
    this.#cancel(this.#watchdog);
    this.#cancel(this.#pumpTimer);
    this.#pace.lost();
    for (const { items } of this.#unanswered.values()) for (const item of items) item.busy = false;
    this.#unanswered.clear();
    // Only a connection that lasted shows that trouble is over.
    if (this.#clock.now() - this.#onlineSince >= maxMs) this.#attempt = 0;
    this.#onlineSince = Infinity;
    socket?.close(1000);
    const why = { code, reason: (code !== 1000 && this.#complaint?.error) || reason || this.#failure };
    this.#handshakes = this.#opened ? 0 : this.#handshakes + Number(!!socket && delay === undefined);
    // Browsers do not tell a page how its handshake was answered, so that it could be anything.
    const isOutage = this.#everOpened || this.#handshakes < HANDSHAKES || globalThis.navigator?.onLine === false;
    if (!isOutage) Object.assign(why, { code: 'handshake_failed', reason: this.#handshakeAdvice(why.reason) });
    if (!final) {
      const retryInMs = delay ?? this.#clock.random() * Math.min(maxMs, baseMs * 2 ** this.#attempt++);
      this.#retry = this.#later(retryInMs, () => this.#connect());
      return this.#enter('waiting', { ...why, retryInMs });
    }
    this.#listening.abort();
    for (const timer of this.#timers) this.#cancel(timer);
    const items = [...this.#lanes.values()].flat();
    this.#lanes.clear();
    this.#enter('stopped', why);
    for (const item of items) item.reject(new ArcYouError('closed', why.reason));
  }

  #handshakeAdvice(said) {
    const { origin } = globalThis.location ?? {};
    const page = origin ? `that ALLOWED_ORIGINS of the gateway lists this page's origin, ${origin}` : 'that the gateway lets this client in';
    const last = said ? `; the last failure: ${said}` : '';
    return `no connection could be opened yet: check the URL, that the gateway runs and its TLS certificate is valid, and ${page}${last}`;
  }

  // Requests: each is asked until there is a final answer.

  /** `room` is of a join: such requests go together, in lists. */
  #request(lane, frame, { took = (_) => {}, counted = true, room = undefined } = {}) {
    return new Promise((resolve, reject) => {
      if (this.state === 'stopped') return reject(new ArcYouError('closed', 'the client is closed'));
      const full = counted && this.#queued >= this.#options.maxQueued;
      if (full) return reject(new ArcYouError('queue_full', 'too many requests wait for the gateway'));
      this.#queued += Number(counted);
      if (!this.#lanes.has(lane)) this.#lanes.set(lane, []);
      const asked = { busy: false, tries: 0, notBefore: -Infinity, most: Infinity };
      this.#lanes.get(lane).push({ lane, frame, took, counted, room, resolve, reject, ...asked });
      this.#pump();
    });
  }

  /** Asks what may be asked now, and again if that was answered within the call, as what is too large is. */
  #pump() {
    this.#toPump = true;
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      while (this.#toPump) this.#pumpOnce();
    } finally {
      this.#pumping = false;
    }
  }

  /** Changes go first; a timer is set for what may be asked later. */
  #pumpOnce() {
    this.#toPump = false;
    this.#cancel(this.#pumpTimer);
    if (!this.#ready) return;
    const now = this.#clock.now();
    const [changes, others] = [[], []];
    let next = Infinity;
    for (const [item] of this.#lanes.values()) {
      const due = isRead(item) ? Math.max(item.notBefore, this.#readsFrom) : item.notBefore;
      if (item.busy || (item.room && this.#joining)) continue;
      if (due > now) next = Math.min(next, due);
      else (item.lane.startsWith('change ') ? changes : others).push(item);
    }
    while (changes.length + others.length > 0 && this.#ready && this.#unanswered.size < WINDOW) {
      if (this.#pace.frames < 1) {
        next = Math.min(next, now + this.#pace.waitMs);
        break;
      }
      const from = others.length === 0 || (changes.length > 0 && this.#changesInRow < CHANGES_IN_ROW) ? changes : others;
      const item = from.shift();
      if (item.busy) continue;
      this.#changesInRow = from === changes ? this.#changesInRow + 1 : 0;
      if (!item.room) this.#ask(item.frame(), (reply) => this.#answered([item], reply), [item]);
      else if (!this.#joining) this.#askToJoin([item, ...others.filter(({ room, busy }) => room && !busy)]);
    }
    if (next < Infinity) this.#pumpTimer = this.#later(Math.max(1, next - now), () => this.#pump());
  }

  /** One frame for as many of these joins as the gateway takes in one, and as may be sent now. */
  #askToJoin(waiting) {
    const { max_join_list: longest, joins_per_frame: perFrame, max_frame_bytes: bytes } = this.#limits;
    let [most, left] = [Math.min(longest, this.#pace.frames * perFrame), bytes - ENVELOPE_BYTES];
    const [items, entries] = [[], []];
    for (const item of waiting) {
      const entry = item.frame();
      most = Math.min(most, item.most);
      left -= bytesOf(JSON.stringify(entry)) + 1;
      if (items.length > 0 && (items.length >= most || left < 0)) break;
      items.push(item);
      entries.push(entry);
    }
    this.#joining = true;
    const frame = items.length === 1 ? { op: 'join', ...entries[0] } : { op: 'join', conversations: entries };
    const answer = (reply) => {
      this.#joining = false;
      this.#answered(items, reply);
    };
    this.#ask(frame, answer, items, Math.ceil(items.length / perFrame));
  }

  #ask(frame, answer, items = [], cost = 1) {
    const ref = this.#nextRef++;
    const text = JSON.stringify({ ...frame, ref });
    for (const item of items) item.busy = true;
    if (bytesOf(text) > this.#limits.max_frame_bytes) return answer(TOO_LARGE);
    this.#unanswered.set(ref, { text, answer, items, cost });
    this.#pace.spend(cost);
    // The first alone: those that follow must not put off the moment at which it is given up.
    if (this.#unanswered.size === 1) this.#watch();
    this.#socket.send(text);
  }

  /** The reply to a request, or to a list of joins. */
  #answered(items, reply) {
    const again = reply.code === 'auth_required' || ASK_AGAIN.has(reply.code);
    if (reply.conversations) {
      const late = items.filter((_, at) => ASK_AGAIN.has(reply.conversations[at].code));
      if (late.length > 0) this.#postpone(late, reply.conversations[items.indexOf(late[0])]);
      items.forEach((item, at) => late.includes(item) || this.#settle(item, reply.conversations[at]));
    } else if (again) {
      this.#postpone(items, reply);
    } else if (items.length > 1) {
      // Something in the list is no entry: halves are asked, until it stands alone and hinders nobody.
      for (const item of items) Object.assign(item, { busy: false, most: Math.ceil(items.length / 2) });
    } else {
      this.#settle(items[0], reply);
    }
    if (!again) this.#pace.admitted();
    this.#pump();
  }

  /** These are asked again: all at once, after a while, which a rate limit makes everybody wait for. */
  #postpone(items, reply) {
    for (const item of items) item.busy = false;
    if (reply.code === 'auth_required') return this.#renew();
    const { baseMs, maxMs } = this.#options.backoff;
    const longest = reply.retry_after_ms ?? Math.min(maxMs, baseMs * 2 ** items[0].tries);
    const wait = (reply.retry_after_ms ?? 0) + this.#clock.random() * longest;
    const due = this.#clock.now() + wait;
    // Of a read it may be the bytes that were too many; if it was the frames, the next one tells.
    if (reply.code === 'rate_limited' && isRead(items[0])) this.#readsFrom = Math.max(this.#readsFrom, due);
    else if (reply.code === 'rate_limited') this.#pace.refused(wait);
    else for (const item of items) [item.notBefore, item.tries] = [due, item.tries + 1];
  }

  /** The final answer. */
  #settle(item, reply) {
    const items = this.#lanes.get(item.lane);
    items.shift();
    // To the end, so that busy lanes leave room for others.
    this.#lanes.delete(item.lane);
    if (items.length > 0) this.#lanes.set(item.lane, items);
    this.#queued -= Number(item.counted);
    if (!reply.success) return item.reject(new ArcYouError(reply.code, reply.error, reply));
    // Before the next frame is read, which may be in the same piece of the stream; a promise would be later.
    item.took(reply);
    item.resolve(reply);
  }

  /** The gateway does not say which frame was too large, but if any was, the largest one was. */
  #refuseLargest() {
    const [ref, largest] = [...this.#unanswered].sort(([, a], [, b]) => bytesOf(b.text) - bytesOf(a.text))[0] ?? [];
    if (!largest) return;
    this.#unanswered.delete(ref);
    this.#pace.answered(largest.cost);
    largest.answer(TOO_LARGE);
  }

  // What the gateway says.

  #receive(frame) {
    const request = this.#unanswered.get(frame.ref);
    this.#unanswered.delete(frame.ref);
    this.#probing = false;
    if (request) this.#pace.answered(request.cost);
    if (request?.items.length > 0) this.#timeouts = 0;
    if (frame.op === 'event') this.#event(frame);
    else if (request) request.answer(frame);
    else {
      this.#complaint = frame;
      if (frame.code === 'token_expired') this.#renew();
      else if (frame.code === 'frame_too_large') this.#refuseLargest();
      // Taken away, unless the gateway could not make sure of it: asking again tells.
      else if (frame.op === 'join') this.#rejoin([this.#rooms.get(frame.conversation_id)]);
    }
    if (this.#socket) this.#watch();
  }

  #event(event) {
    const room = this.#rooms.get(event.conversation_id);
    if (!room) return;
    if (event.event_id === undefined && event.seq !== undefined) {
      if (room.seq === undefined || event.seq <= room.seq) return;
      if (room.fill) room.fill.held.push(event);
      else this.#tell(room, event);
      return;
    }
    if (this.#eventIds.has(event.event_id)) return;
    if (event.event_id !== undefined) this.#eventIds.add(event.event_id);
    if (this.#eventIds.size > MAX_EVENT_IDS) this.#eventIds.delete(this.#eventIds.values().next().value);
    this.#notify(room.id, 'onEvent', event);
  }

  /** Tells the messages up to `target` from the history, as they stand. What comes live meanwhile is told after them. */
  async #fill(room, target) {
    const fill = (room.fill = { held: [] });
    // A later join begins anew where this one has come to.
    const current = () => this.#rooms.get(room.id) === room && room.fill === fill;
    const both = { conversation_id: room.id, conversationId: room.id };
    const ask = () => ({ op: 'history', ...both, after_seq: room.seq, limit: 200 });
    try {
      for (let more = true; more && current() && room.seq < target; ) {
        const page = await this.#request(`fill ${room.id}`, ask, { counted: false });
        const { as_of_seq } = page;
        for (const message of page.messages.filter(({ seq }) => seq <= target)) {
          const event = { op: 'event', type: 'message.created', source: 'history', seq: message.seq, message, as_of_seq, ...both };
          if (current() && message.seq > room.seq) this.#tell(room, event);
        }
        more = page.has_more && page.messages.at(-1)?.seq < target;
      }
    } catch (error) {
      if (current()) this.#drop(room, error);
    }
    if (!current()) return;
    room.fill = undefined;
    room.seq = Math.max(room.seq, target);
    for (const event of fill.held) {
      if (this.#rooms.get(room.id) === room && event.seq > room.seq) this.#tell(room, event);
    }
  }

  #join(room, counted) {
    const frame = () => ({ conversation_id: room.id, after_seq: room.seq });
    const took = (reply) => {
      room.seq ??= reply.last_seq;
      // The gateway begins anew after what was told: what was held back comes again.
      room.fill = undefined;
      if (reply.resumed === false) this.#miss(room, reply.last_seq);
      if (room.isVoid) this.#notify(room.id, 'onReset', room.id);
      room.isVoid = false;
    };
    const ask = () => this.#request(`room ${room.id}`, frame, { took, counted, room });
    return ask().catch((error) => {
      const beyond = error.code === 'unknown_message' && room.seq !== undefined;
      if (!beyond || this.#rooms.get(room.id) !== room) throw error;
      // The position is one of a past that never was. Ids of events may come again as well.
      Object.assign(room, { seq: undefined, fill: undefined, isVoid: true });
      this.#eventIds.clear();
      return ask();
    });
  }

  /** The changes up to `last` do not come any more. */
  #miss(room, last) {
    if (room.fills) this.#fill(room, last);
    else room.seq = last;
    this.#notify(room.id, 'onMissed', room.id);
  }

  #rejoin(rooms = this.#rooms.values()) {
    for (const room of rooms) {
      // A join that waits in the lane will do.
      if (room && !this.#lanes.has(`room ${room.id}`)) this.#join(room, false).catch((error) => this.#drop(room, error));
    }
  }

  /** The room is gone, unless the application left it meanwhile, or everything ended. */
  #drop(room, error) {
    if (this.state === 'stopped' || this.#rooms.get(room.id) !== room) return;
    this.#rooms.delete(room.id);
    this.#notify(room.id, 'onLost', room.id, error);
  }

  #tell(room, event) {
    room.seq = event.seq;
    this.#notify(room.id, 'onEvent', event);
  }

  #enter(state, why) {
    this.state = state;
    this.#call(this.#options.onState, state, why);
  }

  /** Tells those who listen to everything, and then those who listen to this conversation. */
  #notify(id, name, ...args) {
    for (const listener of [this.#options, ...(this.#listeners.get(id) ?? [])]) this.#call(listener[name], ...args);
  }

  /** What a callback throws is the application's, and must not break the connection. */
  #call(callback, ...args) {
    try {
      callback?.(...args);
    } catch (error) {
      (globalThis.reportError ?? console.error)(error);
    }
  }

  #later(ms, run) {
    const timer = this.#clock.set(() => (this.#timers.delete(timer), run()), ms);
    this.#timers.add(timer);
    return timer;
  }

  #cancel(timer) {
    this.#timers.delete(timer);
    this.#clock.clear(timer);
  }
}
