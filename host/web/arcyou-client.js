// The reference client of the ArcYou gateway: one module, no dependencies, for browsers and Node.
//
//   const chat = new ArcYouClient('wss://chat.example.com/ws', { token: () => fetchToken(), onEvent: show });
//   await chat.join(conversation, { afterSeq: lastSeqThatIHave });
//   await chat.send(conversation, { text: 'Hello!' });
//
// A send that resolves is dealt with once, in the order of the calls; every message of a joined conversation is told once, in the
// order of `seq`, whatever happens to the connection.

/**
 * @typedef {Record<string, any>} Frame A frame as the protocol has it.
 * @typedef {'connecting' | 'online' | 'waiting' | 'stopped'} State
 * @typedef {{ code: number | string, reason: string, retryInMs?: number }} Why A close code, or a code of the protocol.
 * @typedef {object} Options
 * @property {() => string | Promise<string>} token Asked for a fresh token at each connect, and when one has expired.
 * @property {any} [WebSocket] The constructor, where there is no global one (Node before 22).
 * @property {(event: Frame) => void} [onEvent] Messages, each once and in order, and all other events.
 * @property {(state: State, why?: Why) => void} [onState] `stopped` is for good: `why` says what to put right.
 * @property {(conversationId: string, error: ArcYouError) => void} [onLost] A joined conversation was taken away, or could not be joined again.
 * @property {(conversationId: string) => void} [onReset] The gateway knows fewer messages than were told, as after a database was
 *   restored from a backup: what the application keeps of the conversation is void, and to be read anew with `history`.
 * @property {{ baseMs?: number, maxMs?: number }} [backoff] Delays are random, at most `baseMs`, doubled each time up to `maxMs`.
 * @property {number} [tokenTimeoutMs] How long the token callback may take before it is asked again.
 * @property {number} [requestTimeoutMs] Silence after which an unanswered request means that the connection is dead.
 * @property {number} [idleMs] Silence after which the connection is tried with a `ping`.
 * @property {number} [maxQueued] Requests that may wait for an answer; more are refused with `queue_full`.
 * @property {{ set?: Function, clear?: Function, now?: () => number, random?: () => number }} [clock] For tests.
 */

const ASK_AGAIN = new Set(['unavailable', 'overloaded', 'outcome_unknown', 'rate_limited']);
/** Refusals of a token that a later one may not meet. After any other a reconnect would change nothing. */
const AUTH_AGAIN = new Set([...ASK_AGAIN, 'token_expired', 'token_not_yet_valid', 'internal']);
const isFinal = (code) => code === 1002 || code === 1007 || (code >= 4500 && code <= 4999);
/** Unanswered requests at once; so few that no rate limit can take them for a flood. `rate_limited` makes it one for a while. */
const MAX_WINDOW = 8;
const MAX_EVENT_IDS = 4096;
// Wrapped, since browsers insist on their own `this`.
const TIMERS = { set: (run, ms) => setTimeout(run, ms), clear: (timer) => clearTimeout(timer) };
const CLOCK = { ...TIMERS, now: () => Date.now(), random: () => Math.random() };
/** `crypto.randomUUID` is missing in pages that did not come over HTTPS. */
const newKey = () => crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))].join('-');

/** A final refusal. `code` is the protocol's, or `queue_full` or `closed`; `reply` the whole reply, if there was one. */
export class ArcYouError extends Error {
  /** @param {string} code @param {string} message @param {Frame} [reply] */
  constructor(code, message, reply) {
    super(message);
    this.code = code;
    this.reply = reply;
    /** Of a send: with it the message can be sent again later, and is stored once. @type {string | undefined} */
    this.idempotencyKey = undefined;
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
  /** The last failure that answered no request; a close code may follow, and this says more. */
  #complaint = null;
  #attempt = 0;
  #onlineSince = Infinity;
  /** Of each lane the first request is asked; the others wait for its final answer. */
  #lanes = new Map();
  #unanswered = new Map();
  #queued = 0;
  #nextRef = 1;
  #window = MAX_WINDOW;
  #paused = false;
  /** Joined conversations; `seq` is the last message that was told. */
  #rooms = new Map();
  #eventIds = new Set();
  #timers = new Set();
  #watchdog;
  #url; #options; #clock;

  /** Connects at once. @param {string | (() => string)} url A function may name another gateway each time. @param {Options} options */
  constructor(url, options) {
    this.#url = url;
    this.#options = { tokenTimeoutMs: 30_000, requestTimeoutMs: 30_000, idleMs: 25_000, maxQueued: 1000, ...options };
    this.#options.backoff = { baseMs: 500, maxMs: 30_000, ...options.backoff };
    this.#clock = { ...CLOCK, ...options.clock };
    this.#connect();
  }

  /**
   * Events come from now on, across reconnects; with `afterSeq` every message after that one comes first.
   * @param {string} conversationId @param {{ afterSeq?: number }} [from] @returns {Promise<Frame>}
   */
  join(conversationId, { afterSeq } = {}) {
    const id = conversationId.toLowerCase();
    const known = this.#rooms.get(id);
    const room = known ?? { id, seq: afterSeq, target: 0, filling: false, resets: 0 };
    this.#rooms.set(id, room);
    return this.#join(room, true).catch((error) => {
      if ((error.reply || !known) && this.#rooms.get(id) === room) this.#rooms.delete(id);
      throw error;
    });
  }

  /** The `seq` of the last message that was told; a later client's `afterSeq`. @param {string} conversationId @returns {number | undefined} */
  lastSeq(conversationId) {
    return this.#rooms.get(conversationId.toLowerCase())?.seq;
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
   * Resolves with the reply: its `status` is `stored`, `held` or `discarded`.
   * @param {string} conversationId @param {object} body @param {{ idempotencyKey?: string }} [options] @returns {Promise<Frame>}
   */
  async send(conversationId, body, { idempotencyKey = newKey() } = {}) {
    const id = conversationId.toLowerCase();
    // A copy: what the caller changes later must not change what is sent again under the same key.
    const frame = JSON.parse(JSON.stringify({ op: 'send', conversation_id: id, body, idempotency_key: idempotencyKey }));
    return this.#request(`send ${id}`, () => frame).catch((error) => {
      throw Object.assign(error, { idempotencyKey });
    });
  }

  /** @param {string} conversationId @param {number} lastReadId A message's id. @returns {Promise<Frame>} */
  ack(conversationId, lastReadId) {
    return this.#request(`ack ${conversationId}`, () => ({ op: 'ack', conversation_id: conversationId, last_read_id: lastReadId }));
  }

  /** @param {string} conversationId @param {{ beforeSeq?: number, afterSeq?: number, limit?: number }} [page] @returns {Promise<Frame>} */
  history(conversationId, { beforeSeq, afterSeq, limit } = {}) {
    const frame = { op: 'history', conversation_id: conversationId, before_seq: beforeSeq, after_seq: afterSeq, limit };
    return this.#request(`history ${this.#nextRef++}`, () => frame);
  }

  /** For good; what is unanswered is rejected with `closed`. */
  close() {
    this.#lost(1000, 'closed by the application', true);
  }

  // The connection.

  async #connect() {
    this.#change('connecting');
    this.#complaint = null;
    let socket;
    try {
      this.#token = await this.#freshToken();
      if (this.state === 'stopped') return;
      socket = new (this.#options.WebSocket ?? WebSocket)(typeof this.#url === 'function' ? this.#url() : this.#url);
    } catch (error) {
      return this.#lost('not_connected', String(error));
    }
    const mine = (run) => (event) => socket === this.#socket && run(event);
    this.#socket = socket;
    socket.onopen = mine(() => this.#authenticate(() => this.#lost('auth', 'the token was refused')));
    socket.onmessage = mine(({ data }) => this.#receive(JSON.parse(data)));
    socket.onclose = mine(({ code, reason }) => this.#lost(code, reason));
    socket.onerror = () => {}; // A close follows and says more.
    this.#watch();
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
      this.#ready = true;
      this.#renewing = false;
      if (this.#onlineSince === Infinity) {
        this.#onlineSince = this.#clock.now();
        this.#change('online');
        this.#rejoin();
      }
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
    const { requestTimeoutMs, idleMs } = this.#options;
    const giveUp = () => this.#lost('timeout', 'the gateway did not answer');
    // Any answer will do.
    const probe = () => this.#ask({ op: 'ping' }, () => {});
    const awaited = !this.#ready || this.#unanswered.size > 0;
    this.#watchdog = awaited ? this.#later(requestTimeoutMs, giveUp) : this.#later(idleMs, probe);
  }

  #lost(code, reason, final = isFinal(code)) {
    if (code === 1009 && this.#complaint?.code !== 'frame_too_large') this.#refuseLargest();
    if (this.state === 'stopped') return;
    const [socket, { baseMs, maxMs }] = [this.#socket, this.#options.backoff];
    // Let go of at once: the closing handshake of a dead connection takes long.
    this.#socket = null;
    this.#ready = this.#renewing = false;
    this.#cancel(this.#watchdog);
    for (const { item } of this.#unanswered.values()) if (item) item.busy = false;
    this.#unanswered.clear();
    // Only a connection that lasted shows that trouble is over.
    if (this.#clock.now() - this.#onlineSince >= maxMs) this.#attempt = 0;
    this.#onlineSince = Infinity;
    socket?.close(1000);
    const why = { code, reason: (code !== 1000 && this.#complaint?.error) || reason };
    if (!final) {
      const retryInMs = this.#clock.random() * Math.min(maxMs, baseMs * 2 ** this.#attempt++);
      this.#later(retryInMs, () => this.#connect());
      return this.#change('waiting', { ...why, retryInMs });
    }
    for (const timer of this.#timers) this.#cancel(timer);
    const items = [...this.#lanes.values()].flat();
    this.#lanes.clear();
    this.#change('stopped', why);
    for (const item of items) item.reject(new ArcYouError('closed', why.reason));
  }

  // Requests: each is asked until there is a final answer.

  #request(lane, frame, { took = (_) => {}, counted = true } = {}) {
    return new Promise((resolve, reject) => {
      if (this.state === 'stopped') return reject(new ArcYouError('closed', 'the client is closed'));
      const full = counted && this.#queued >= this.#options.maxQueued;
      if (full) return reject(new ArcYouError('queue_full', 'too many requests wait for the gateway'));
      this.#queued += Number(counted);
      if (!this.#lanes.has(lane)) this.#lanes.set(lane, []);
      this.#lanes.get(lane).push({ lane, frame, took, counted, resolve, reject, busy: false, tries: 0 });
      this.#pump();
    });
  }

  #pump() {
    for (const [item] of this.#lanes.values()) {
      if (!this.#ready || this.#paused || this.#unanswered.size >= this.#window) return;
      if (item.busy) continue;
      item.busy = true;
      this.#ask(item.frame(), (reply) => this.#answered(item, reply), item);
    }
  }

  #ask(frame, answer, item) {
    const ref = this.#nextRef++;
    const text = JSON.stringify({ ...frame, ref });
    this.#unanswered.set(ref, { text, answer, item });
    // The first alone: those that follow must not put off the moment at which it is given up.
    if (this.#unanswered.size === 1) this.#watch();
    this.#socket.send(text);
  }

  #answered(item, reply) {
    if (reply.code === 'auth_required') {
      item.busy = false;
      this.#renew();
    } else if (ASK_AGAIN.has(reply.code)) {
      const { baseMs, maxMs } = this.#options.backoff;
      const longest = reply.retry_after_ms ?? Math.min(maxMs, baseMs * 2 ** item.tries++);
      const wait = (reply.retry_after_ms ?? 0) + this.#clock.random() * longest;
      // The rate limit is the socket's; all else concerns this request.
      const limited = reply.code === 'rate_limited';
      if (limited) [this.#paused, this.#window] = [true, 1];
      this.#later(wait, () => {
        item.busy = false;
        if (limited) this.#paused = false;
        this.#pump();
      });
    } else {
      const items = this.#lanes.get(item.lane);
      items.shift();
      // To the end, so that busy lanes leave room for others.
      this.#lanes.delete(item.lane);
      if (items.length > 0) this.#lanes.set(item.lane, items);
      this.#queued -= Number(item.counted);
      if (!reply.success) item.reject(new ArcYouError(reply.code, reply.error, reply));
      this.#window = Math.min(this.#window + 1, MAX_WINDOW);
      // Before the next frame is read, which may be in the same piece of the stream; a promise would be later.
      if (reply.success) item.took(reply);
      item.resolve(reply);
    }
    this.#pump();
  }

  /** The gateway does not say which frame was too large, but if any was, the largest one was. */
  #refuseLargest() {
    const bytes = ([, { text }]) => new TextEncoder().encode(text).length;
    const [ref, largest] = [...this.#unanswered].sort((a, b) => bytes(b) - bytes(a))[0] ?? [];
    this.#unanswered.delete(ref);
    largest?.answer({ success: false, code: 'frame_too_large', error: 'the frame is larger than the gateway allows' });
  }

  // What the gateway says.

  #receive(frame) {
    const request = this.#unanswered.get(frame.ref);
    this.#unanswered.delete(frame.ref);
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
    if (event.type === 'message.created' && event.event_id === undefined) {
      const { seq } = event.message;
      if (room.seq === undefined || seq <= room.seq) return;
      if (room.filling || seq > room.seq + 1) return this.#fill(room, seq);
      return this.#tell(room, event);
    }
    if (this.#eventIds.has(event.event_id)) return;
    if (event.event_id !== undefined) this.#eventIds.add(event.event_id);
    if (this.#eventIds.size > MAX_EVENT_IDS) this.#eventIds.delete(this.#eventIds.values().next().value);
    this.#call(this.#options.onEvent, event);
  }

  /** Tells everything up to `target` from the history. What comes live meanwhile is stored: it only moves the target. */
  async #fill(room, target) {
    room.target = Math.max(room.target, target);
    if (room.filling) return;
    room.filling = true;
    const { resets } = room;
    const current = () => this.#rooms.get(room.id) === room && room.resets === resets;
    const both = { conversation_id: room.id, conversationId: room.id };
    const ask = () => ({ op: 'history', ...both, after_seq: room.seq, limit: 200 });
    try {
      while (current() && room.seq < room.target) {
        const known = room.target;
        const page = await this.#request(`fill ${room.id}`, ask, { counted: false });
        for (const message of page.messages) {
          const event = { op: 'event', type: 'message.created', source: 'history', message, ...both };
          if (current() && message.seq > room.seq) this.#tell(room, event);
        }
        // What is missing up to here has been deleted.
        if (current() && !page.has_more) room.seq = Math.max(room.seq, known);
      }
    } catch (error) {
      if (current()) this.#drop(room, error);
    }
    if (room.resets === resets) room.filling = false;
  }

  #join(room, counted) {
    const frame = () => ({ op: 'join', conversation_id: room.id, after_seq: room.seq });
    const took = (reply) => {
      room.seq ??= reply.last_seq;
      if (reply.resumed === false) this.#fill(room, reply.last_seq);
    };
    const ask = () => this.#request(`room ${room.id}`, frame, { took, counted });
    return ask().catch((error) => {
      const beyond = error.code === 'unknown_message' && room.seq !== undefined;
      if (!beyond || this.#rooms.get(room.id) !== room) throw error;
      this.#reset(room);
      return ask();
    });
  }

  /** The position is one of a past that never was. Ids of events may come again as well. */
  #reset(room) {
    Object.assign(room, { seq: undefined, target: 0, filling: false, resets: room.resets + 1 });
    this.#eventIds.clear();
    this.#call(this.#options.onReset, room.id);
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
    this.#call(this.#options.onLost, room.id, error);
  }

  #tell(room, event) {
    room.seq = event.message.seq;
    this.#call(this.#options.onEvent, event);
  }

  #change(state, why) {
    this.state = state;
    this.#call(this.#options.onState, state, why);
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
