/** A final refusal. `code` is the protocol's, or `queue_full` or `closed`; `reply` the whole reply, if there was one. */
export class ArcYouError extends Error {
    /** @param {string} code @param {string} message @param {Frame} [reply] */
    constructor(code: string, message: string, reply?: Frame);
    code: string;
    /** @type {Frame | undefined} */
    reply: Frame | undefined;
    /** Of a send: with it the message can be sent again later, and is stored once. @type {string | undefined} */
    idempotencyKey: string | undefined;
}
export class ArcYouClient {
    /** Connects at once. @param {string | (() => string)} url A function may name another gateway each time. @param {Options} options */
    constructor(url: string | (() => string), options: Options);
    /** @type {State} */ state: State;
    /** The user that the token speaks for, once that is known. @type {string | undefined} */ userId: string | undefined;
    /**
     * Events come from now on, across reconnects; with `afterSeq` every message after that one comes first.
     * @param {string} conversationId @param {{ afterSeq?: number }} [from] @returns {Promise<Joined>}
     */
    join(conversationId: string, { afterSeq }?: {
        afterSeq?: number;
    }): Promise<Joined>;
    /** The `seq` of the last message that was told; a later client's `afterSeq`. @param {string} conversationId @returns {number | undefined} */
    lastSeq(conversationId: string): number | undefined;
    /** @param {string} conversationId @returns {Promise<Frame | undefined>} */
    leave(conversationId: string): Promise<Frame | undefined>;
    /**
     * Resolves with the reply. The event of the message has the `tempId` too, unless the connection broke meanwhile.
     * @param {string} conversationId @param {object} body @param {{ idempotencyKey?: string, tempId?: string | number }} [options]
     * @returns {Promise<Sent>}
     */
    send(conversationId: string, body: object, { idempotencyKey, tempId }?: {
        idempotencyKey?: string;
        tempId?: string | number;
    }): Promise<Sent>;
    /** @param {string} conversationId @param {number} lastReadId A message's id. @returns {Promise<Frame>} */
    ack(conversationId: string, lastReadId: number): Promise<Frame>;
    /** @param {string} conversationId @param {{ beforeSeq?: number, afterSeq?: number, limit?: number }} [page] @returns {Promise<Page>} */
    history(conversationId: string, { beforeSeq, afterSeq, limit }?: {
        beforeSeq?: number;
        afterSeq?: number;
        limit?: number;
    }): Promise<Page>;
    /** Connects anew at once, without waiting for the next attempt: for an application that knows that the network has changed. */
    reconnect(): void;
    /** For good; what is unanswered is rejected with `closed`. */
    close(): void;
    #private;
}
/**
 * A frame as the protocol has it.
 */
export type Frame = Record<string, any>;
export type Message = {
    id: number;
    seq: number;
    conversation_id: string;
    sender_id: string;
    body: Record<string, any>;
    created_at: string;
};
/**
 * A message, each once and in order.
 */
export type MessageCreated = {
    op: "event";
    type: "message.created";
    source: "live" | "backfill" | "history";
    message: Message;
    conversation_id: string;
    conversationId: string;
    temp_id?: string | number;
    event_id?: undefined;
};
/**
 * Everything else that happens: what has an `event_id` is one.
 */
export type OtherEvent = {
    op: "event";
    type: string;
    conversation_id: string;
    conversationId: string;
    event_id: number;
    [field: string]: any;
};
export type Stored = {
    status: "stored";
    message_id: number;
    seq: number;
    created_at: string;
} & Answer;
export type NotStored = {
    status: "held" | "discarded";
    message_id: null;
    seq: null;
    created_at: null;
} & Answer;
/**
 * `body` is there if a plugin replaced
 * the message's: it is the one that everybody sees.
 */
export type Answer = {
    duplicate?: boolean;
    body?: Record<string, any>;
    temp_id?: string | number;
};
export type Sent = Stored | NotStored;
export type Joined = {
    conversation_id: string;
    last_seq: number;
    last_read_id: number | null;
    role: string | null;
    resumed?: boolean;
};
export type Page = {
    messages: Message[];
    has_more: boolean;
};
export type State = "connecting" | "online" | "waiting" | "stopped";
/**
 * A close code, or a code of the protocol, or one of the
 * client: `timeout`, `token`, `auth`, `not_connected`, `reconnect`, and `handshake_failed` if no attempt has got through yet.
 */
export type Why = {
    code: number | string;
    reason: string;
    retryInMs?: number;
};
export type Options = {
    /**
     * Asked for a fresh token at each connect, and when one has expired.
     */
    token: () => string | Promise<string>;
    /**
     * The constructor, where there is no global one (Node before 22).
     */
    WebSocket?: any;
    /**
     * Messages, each once and in order, and all other events.
     */
    onEvent?: ((event: MessageCreated | OtherEvent) => void) | undefined;
    /**
     * `stopped` is for good: `why` says what to put right.
     */
    onState?: ((state: State, why?: Why) => void) | undefined;
    /**
     * A joined conversation was taken away, or could not be joined again.
     */
    onLost?: ((conversationId: string, error: ArcYouError) => void) | undefined;
    /**
     * The gateway knows fewer messages than were told, as after a database was
     * restored from a backup: what the application keeps of the conversation is void, and to be read anew with `history`.
     */
    onReset?: ((conversationId: string) => void) | undefined;
    /**
     * Delays are random, at most `baseMs`, doubled each time up to `maxMs`.
     */
    backoff?: {
        baseMs?: number;
        maxMs?: number;
    } | undefined;
    /**
     * How long the token callback may take before it is asked again.
     */
    tokenTimeoutMs?: number | undefined;
    /**
     * Silence after which an unanswered request means that the connection is dead: twice and four
     * times as long once connections were given up so, since a gateway may be silent for 40 s while its database hangs.
     */
    requestTimeoutMs?: number | undefined;
    /**
     * Silence after which the connection is tried with a `ping`.
     */
    idleMs?: number | undefined;
    /**
     * Silence after such a `ping` which means that the connection is dead.
     */
    pingTimeoutMs?: number | undefined;
    /**
     * Requests that may wait for an answer; more are refused with `queue_full`.
     */
    maxQueued?: number | undefined;
    /**
     * For tests. `now` must never go back.
     */
    clock?: {
        set?: Function;
        clear?: Function;
        now?: () => number;
        random?: () => number;
    } | undefined;
};
