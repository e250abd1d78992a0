// Uses whatever a plugin may be granted, and says what came of it.

import { accept, allow, plugin, refuse } from "../../../../../plugin-sdk/javascript/arcyou.js";
import * as clock from "../../../../../plugin-sdk/javascript/clock.js";
import * as http from "../../../../../plugin-sdk/javascript/http.js";
import * as kv from "../../../../../plugin-sdk/javascript/kv.js";
import * as random from "../../../../../plugin-sdk/javascript/random.js";

const code = (work) => {
    try {
        return work();
    } catch (error) {
        return error.code ?? String(error);
    }
};

class Counting {
    constructor() {
        this.atStart = code(() => kv.get("any"));
    }

    validate({ body, senderId }) {
        const before = kv.get(senderId);
        const count = kv.increment(senderId, body.by ?? 1, 60_000);
        kv.set("text", new Uint8Array([111, 107]), 60_000);
        const noNumber = code(() => kv.increment("text", 1, 60_000));
        const stored = String.fromCharCode(...kv.get("text"));
        const fetched = code(() => {
            const asked = { method: "POST", headers: { "x-ask": "1" }, body: new Uint8Array([104, 105]) };
            const { status, headers, body: answer } = http.send(body.url, asked);
            return `${status} ${headers["x-told"]} ${String.fromCharCode(...answer)}`;
        });
        return accept()
            .annotate("at_start", this.atStart)
            .annotate("before", before === null ? "none" : String.fromCharCode(...before))
            .annotate("count", count)
            .annotate("no_number", noNumber)
            .annotate("stored", stored)
            .annotate("removed", `${kv.remove("text")} ${kv.remove("text")}`)
            .annotate("clock_ms", clock.now())
            .annotate("bytes", random.bytes(8).length)
            .annotate("number", random.number())
            .annotate("fetched", fetched);
    }

    onJoin({ conversationId, userId, role }) {
        const joins = kv.increment(`join ${conversationId} ${userId}`, 1, 60_000);
        return role === "guest" ? refuse("no_guests", `join ${joins}`, { retryAfterMs: 5 }) : allow();
    }
}

export const { configure, validate, onJoin } = plugin(Counting);
