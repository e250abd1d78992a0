export function newKey(): string;
/** A final refusal. `code` is the protocol's, or `queue_full` or `closed`; `reply` the whole reply, if there was one. */
export class ArcYouError extends Error {
    /** @param {string} code @param {string} message @param {Frame} [reply] */
    constructor(code: string, message: string, reply?: Frame);
    code: string;
    /** @type {Frame | undefined} */
    reply: Frame | undefined;
    /** Of a send or an edit: with it the message can be sent again later, and is stored once. @type {string | undefined} */
    idempotencyKey: string | undefined;
}
export class ArcYouClient {
    /** Connects at once. @param {string | (() => string)} url A function may name another gateway each time. @param {Options} options */
    constructor(url: string | (() => string), options: Options);
    /** @type {State} */ state: State;
    /** The user that the token speaks for, once that is known. @type {string | undefined} */ userId: string | undefined;
    /**
     * Events come from now on, across reconnects; with `afterSeq` every change after that one comes first. `fill: false`: what is missed
     * for good (see `onMissed`) is not filled with messages of the history.
     * @param {string} conversationId @param {{ afterSeq?: number, fill?: boolean }} [from] @returns {Promise<Joined>}
     */
    join(conversationId: string, { afterSeq, fill }?: {
        afterSeq?: number;
        fill?: boolean;
    }): Promise<Joined>;
    /** The `seq` of the last change that was told; a later client's `afterSeq`. @param {string} conversationId @returns {number | undefined} */
    lastSeq(conversationId: string): number | undefined;
    /**
     * Callbacks for one conversation, called after those of the options. Joins nothing.
     * @param {string} conversationId @param {Listener} listener @returns {() => boolean} Ends it, and says whether it was the last.
     */
    listen(conversationId: string, listener: Listener): () => boolean;
    /** @param {string} conversationId @returns {Promise<Frame | undefined>} */
    leave(conversationId: string): Promise<Frame | undefined>;
    /**
     * Resolves with the reply. The event of the message has the `tempId` too, unless the connection broke meanwhile.
     * @param {string} conversationId @param {object} body
     * @param {{ replyTo?: number, idempotencyKey?: string, tempId?: string | number }} [options] @returns {Promise<Sent>}
     */
    send(conversationId: string, body: object, { replyTo, idempotencyKey, tempId }?: {
        replyTo?: number;
        idempotencyKey?: string;
        tempId?: string | number;
    }): Promise<Sent>;
    /**
     * With `ifVersion` it is refused as `version_conflict` if the message has another one by then.
     * @param {string} conversationId @param {number} messageId @param {object} body
     * @param {{ ifVersion?: number, idempotencyKey?: string, tempId?: string | number }} [options] @returns {Promise<Edited>}
     */
    edit(conversationId: string, messageId: number, body: object, { ifVersion, idempotencyKey, tempId }?: {
        ifVersion?: number;
        idempotencyKey?: string;
        tempId?: string | number;
    }): Promise<Edited>;
    /**
     * With `ifVersion` it is refused as `version_conflict` if the message has another one by then.
     * @param {string} conversationId @param {number} messageId
     * @param {{ ifVersion?: number, tempId?: string | number }} [options] @returns {Promise<Deleted>}
     */
    delete(conversationId: string, messageId: number, { ifVersion, tempId }?: {
        ifVersion?: number;
        tempId?: string | number;
    }): Promise<Deleted>;
    /**
     * @param {string} conversationId @param {number} messageId @param {string} reaction An emoji, or another text of at most 64 characters.
     * @param {{ remove?: boolean, tempId?: string | number }} [options] @returns {Promise<Reacted>}
     */
    react(conversationId: string, messageId: number, reaction: string, { remove, tempId }?: {
        remove?: boolean;
        tempId?: string | number;
    }): Promise<Reacted>;
    /** @param {string} conversationId @param {number} lastReadId A message's id. @returns {Promise<Frame>} */
    ack(conversationId: string, lastReadId: number): Promise<Frame>;
    /**
     * A page of messages: the newest, or those before or after a place, or around it; with `thread` the answers to that message alone.
     * @param {string} conversationId
     * @param {{ beforeSeq?: number, afterSeq?: number, aroundSeq?: number, thread?: number, limit?: number }} [page] @returns {Promise<Page>}
     */
    history(conversationId: string, { beforeSeq, afterSeq, aroundSeq, thread, limit }?: {
        beforeSeq?: number;
        afterSeq?: number;
        aroundSeq?: number;
        thread?: number;
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
export type Reaction = {
    reaction: string;
    count: number;
    own: boolean;
};
/**
 * As it stood when it was read.
 */
export type Message = {
    id: number;
    /**
     * Numbers the messages of a conversation, 1, 2, 3 …
     */
    n: number;
    /**
     * Its place: the number of the change that created it.
     */
    seq: number;
    /**
     * The number of its last change.
     */
    changed_seq: number;
    /**
     * 1, and one more with each edit and the deletion.
     */
    version: number;
    conversation_id: string;
    sender_id: string;
    /**
     * `null` once it is deleted.
     */
    body: Record<string, any> | null;
    created_at: string;
    edited_at?: string | undefined;
    deleted_at?: string | undefined;
    /**
     * The id of the message that it answers.
     */
    reply_to?: number | undefined;
    /**
     * Of pages alone, the most frequent first.
     */
    reactions?: Reaction[] | undefined;
};
/**
 * What all changes have. `seq` numbers the changes of a conversation.
 */
export type OfChange = {
    op: "event";
    source: "live" | "backfill" | "history";
    seq: number;
    conversation_id: string;
    conversationId: string;
    temp_id?: string | number;
    event_id?: undefined;
};
export type MessageCreated = OfChange & {
    type: "message.created";
    message: Message;
    as_of_seq?: number;
    overtaken?: undefined;
};
export type MessageChanged = OfChange & {
    type: "message.edited" | "message.deleted";
    message: Message;
    user_id: string;
    overtaken?: undefined;
};
/**
 * `count` is how many there are of this reaction now.
 */
export type ReactionChanged = OfChange & {
    type: "reaction.added" | "reaction.removed";
    message_id: number;
    user_id: string;
    reaction: string;
    count: number;
    message?: undefined;
    overtaken?: undefined;
};
/**
 * A change of which nothing is left to show: a later one says what stands.
 */
export type Overtaken = OfChange & {
    type: "message.edited" | "message.deleted" | "reaction.added" | "reaction.removed";
    message_id: number;
    overtaken: true;
    message?: undefined;
};
/**
 * Each once and in order.
 */
export type Change = MessageCreated | MessageChanged | ReactionChanged | Overtaken;
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
    held_id?: number;
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
export type OfMessage = {
    message_id: number;
    duplicate?: boolean;
    temp_id?: string | number;
};
export type EditStored = OfMessage & {
    status: "stored";
    seq: number;
    version: number;
    edited_at: string;
    body?: Record<string, any>;
};
export type EditNotStored = OfMessage & {
    status: "held" | "discarded";
    seq: null;
    version: null;
    edited_at: null;
    held_id?: number;
};
export type Edited = EditStored | EditNotStored;
export type Deleted = OfMessage & {
    seq: number;
    version: number;
    deleted_at: string;
};
/**
 * `seq` is `null` if there was nothing to remove.
 */
export type Reacted = OfMessage & {
    reaction: string;
    count: number;
    seq: number | null;
};
export type Joined = {
    conversation_id: string;
    last_seq: number;
    last_read_id: number | null;
    role: string | null;
    resumed?: boolean;
};
/**
 * What stood when the change `as_of_seq` was the last one.
 */
export type Page = {
    messages: Message[];
    has_more: boolean;
    as_of_seq: number;
    has_more_before?: boolean;
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
     * Changes, each once and in order, and all other events.
     */
    onEvent?: ((event: Change | OtherEvent) => void) | undefined;
    /**
     * `stopped` is for good: `why` says what to put right.
     */
    onState?: ((state: State, why?: Why) => void) | undefined;
    /**
     * A joined conversation was taken away, or could not be joined again.
     */
    onLost?: ((conversationId: string, error: ArcYouError) => void) | undefined;
    /**
     * The gateway knows fewer changes than were told, as after a database was
     * restored from a backup: what the application keeps of the conversation is void, and to be read anew with `history`.
     */
    onReset?: ((conversationId: string) => void) | undefined;
    /**
     * More changes were missed than the gateway repeats. New messages are told all
     * the same, from the history; how older ones were changed is not, so what is shown of them is to be read anew with `history`.
     */
    onMissed?: ((conversationId: string) => void) | undefined;
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
export type Listener = Pick<Options, "onEvent" | "onLost" | "onReset" | "onMissed">;
