// Requests to the hosts that the operator lists. Needs grants = ["http"] and [plugin.http] with `hosts` in plugins.toml.
//
// A request without a response throws an HttpError, whose `code` is "invalid", "not-allowed", "timeout", "too-large",
// "quota" or "unavailable". In the constructor of a plugin every request is unavailable.

import * as wire from "arcyou:gateway/http@1.0.0";

export class HttpError extends Error {
    constructor(code, text) {
        super(text ? `http: ${code}: ${text}` : `http: ${code}`);
        this.name = "HttpError";
        this.code = code;
    }
}

/**
 * Sends a request and waits for the whole response: { status, headers, body }, its body a Uint8Array and its headers an
 * object with names in lower case. `body` of the request is a Uint8Array, too.
 */
export function send(url, { method = "GET", headers = {}, body = new Uint8Array() } = {}) {
    const list = Object.entries(headers).map(([name, value]) => ({ name, value: String(value) }));
    let response;
    try {
        response = wire.send({ method, url, headers: list, body });
    } catch (thrown) {
        const error = thrown?.payload ?? thrown;
        throw new HttpError(String(error?.tag ?? error), error?.val);
    }
    const named = Object.fromEntries(response.headers.map(({ name, value }) => [name, value]));
    return { status: response.status, headers: named, body: response.body };
}
