// Numbers that nobody can guess. Needs grants = ["random"] in plugins.toml. `Math.random` is no source of any.

import * as wire from "arcyou:gateway/random@1.0.0";

/** So many random bytes, at most 64 KiB, as a Uint8Array. */
export const bytes = (length) => wire.bytes(length);

/** A random number from 0 to 1, without 1. */
export const number = () => {
    // As many bits as a number of JavaScript holds.
    const [last, ...others] = wire.bytes(7);
    return others.reduce((sum, byte) => sum * 256 + byte, last >> 3) / 2 ** 53;
};
