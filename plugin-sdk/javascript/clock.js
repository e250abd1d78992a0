// The time of day. Needs grants = ["clock"] in plugins.toml. `Date` knows no time here.

import { nowMs } from "arcyou:gateway/clock@1.0.0";

/** Milliseconds since 1970 began, by the gateway's clock, which may be set back. */
export const now = () => Number(nowMs());
