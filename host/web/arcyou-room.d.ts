export class ArcYouRoom {
    /** Loads and joins at once. @param {ArcYouClient} chat @param {string} conversationId @param {{ pageSize?: number }} [options] */
    constructor(chat: ArcYouClient, conversationId: string, { pageSize }?: {
        pageSize?: number;
    });
    /** Called after each change. @param {() => void} listener @returns {() => void} Ends it. */
    subscribe: (listener: () => void) => () => void;
    /** @returns {Snapshot} */
    snapshot: () => Snapshot;
    /**
     * Shown at once as `sending`. Resolves with the reply once the message is stored, held or discarded, and with nothing if it failed:
     * its `error` says why. @param {Record<string, any>} body @param {{ replyTo?: number }} [options] @returns {Promise<Sent | undefined>}
     */
    send(body: Record<string, any>, { replyTo }?: {
        replyTo?: number;
    }): Promise<Sent | undefined>;
    /** Sends again what failed. @param {string} key @returns {Promise<Sent | undefined>} */
    retry(key: string): Promise<Sent | undefined>;
    /** Forgets what failed, or is held or discarded. @param {string} key */
    dismiss(key: string): void;
    /** @param {number} messageId @param {Record<string, any>} body @param {{ ifVersion?: number }} [options] @returns {Promise<Edited>} */
    edit(messageId: number, body: Record<string, any>, options?: {
        ifVersion?: number;
    }): Promise<Edited>;
    /** @param {number} messageId @param {{ ifVersion?: number }} [options] @returns {Promise<Deleted>} */
    delete(messageId: number, options?: {
        ifVersion?: number;
    }): Promise<Deleted>;
    /** @param {number} messageId @param {string} reaction @param {{ remove?: boolean }} [options] @returns {Promise<Reacted>} */
    react(messageId: number, reaction: string, { remove }?: {
        remove?: boolean;
    }): Promise<Reacted>;
    /** Resolves once the next older page is there. @returns {Promise<void>} */
    loadOlder(): Promise<void>;
    /** Reads everything anew, also after `lost`. */
    reload(): void;
    /** No more events. The conversation is left unless somebody else listens to it. */
    close(): void;
    #private;
}
export type ArcYouClient = import("./arcyou-client.js").ArcYouClient;
export type ArcYouError = import("./arcyou-client.js").ArcYouError;
export type Message = import("./arcyou-client.js").Message;
export type Reaction = import("./arcyou-client.js").Reaction;
export type Sent = import("./arcyou-client.js").Sent;
export type Edited = import("./arcyou-client.js").Edited;
export type Deleted = import("./arcyou-client.js").Deleted;
export type Reacted = import("./arcyou-client.js").Reacted;
/**
 * `key` names a message on the screen: it stays when what
 * was sent becomes a message.
 */
export type Shown = {
    key: string;
    own: boolean;
    reactions: readonly Reaction[];
};
/**
 * `n` is missing for the moment
 * between the reply to a send and its event.
 */
export type StoredItem = Readonly<Omit<Message, "n" | "reactions"> & {
    n?: number;
    state: "stored";
} & Shown>;
/**
 * What was sent and is no message, or not yet: `error` says why it failed.
 */
export type PendingItem = Readonly<{
    state: "sending" | "failed" | "held" | "discarded";
    id: null;
    seq: null;
    conversation_id: string;
    sender_id: string | undefined;
    body: Record<string, any>;
    created_at: string;
    reply_to?: number;
    error?: ArcYouError;
    held_id?: number;
} & Shown>;
export type Item = StoredItem | PendingItem;
export type Snapshot = {
    /**
     * `lost`: the conversation could not be read or joined, or was taken away.
     */
    status: "loading" | "ready" | "lost";
    /**
     * Of `lost`.
     */
    error?: import("./arcyou-client.js").ArcYouError | undefined;
    /**
     * By their place, and at the end what is pending, in the order of the sends.
     */
    messages: readonly Item[];
    /**
     * Whether there are older ones, for `loadOlder`.
     */
    hasOlder: boolean;
    loadingOlder: boolean;
};
