// What a plugin remembers beyond an instance: values with a time to live, which all gateways share. Needs
// grants = ["kv"] in plugins.toml; [plugin.kv] sets quotas. Other plugins have keys of their own.
//
// A call that fails throws a KvError, whose `code` is "unavailable", "quota", "too-large" or "not-a-number". In the
// constructor of a plugin every call is unavailable.

import * as wire from "arcyou:gateway/kv@1.0.0";

export class KvError extends Error {
    constructor(code) {
        super(`kv: ${code}`);
        this.name = "KvError";
        this.code = code;
    }
}

/** What is no whole number would end the call without a word. */
const whole = (name, number) => {
    if (!Number.isSafeInteger(number)) {
        throw new TypeError(`${name} must be a whole number, not ${String(number)}`);
    }
    return number;
};

const asking = (work) => {
    try {
        return work();
    } catch (thrown) {
        throw new KvError(String(thrown?.payload ?? thrown?.message ?? thrown));
    }
};

/** The value of a key as a Uint8Array, or null if it was never set or has expired. */
export const get = (key) => asking(() => wire.get(key)) ?? null;

/** Sets a key to the bytes of a Uint8Array, for 1 ms to 30 days. */
export const set = (key, value, ttlMs) => {
    whole("ttlMs", ttlMs);
    asking(() => wire.set(key, value, ttlMs));
};

/** Removes a key. Returns whether it was there. */
export const remove = (key) => asking(() => wire.delete(key));

/**
 * Adds a whole number in one step that no other call can come between, and returns the sum. A key that is not there
 * counts as zero and lives for `ttlMs`; one that is there keeps its time to live. Sums above 2^53 lose their last digits.
 */
export const increment = (key, by, ttlMs) => {
    whole("by", by);
    whole("ttlMs", ttlMs);
    return asking(() => wire.increment(key, by, ttlMs));
};
