// Plugins for the ArcYou chat gateway in JavaScript: a class, made from its configuration, with a method for each hook.
//
//     import { accept, plugin, reject, settings } from "./sdk/javascript/arcyou.js";
//
//     class NoBots {
//         constructor(config) {
//             this.config = settings(config, { allowed: ["helper"] });
//         }
//         validate(message) {
//             const welcome = message.senderRole !== "bot" || this.config.allowed.includes(message.body.name);
//             return welcome ? accept() : reject("bots", "no bots here");
//         }
//     }
//     export const { configure, validate } = plugin(NoBots);
//
// The hooks are `validate`, `filter` and `onJoin`; what is exported is called. Beside this file are clock.js, random.js,
// kv.js and http.js: a plugin that imports one of them needs it granted.
//
// A message is { conversationId, senderId, senderRole, body, annotations, edits }, its body parsed. Integers above 2^53 lose
// their last digits when JavaScript reads them: a filter should replace no body in which they matter.
//
// The hooks are asked about edits as about messages that are sent: `body` is the whole new body. `edits` tells what is
// edited, { messageId, version, body } as it stands now, and is null for a message that is sent.

import { log } from "arcyou:gateway/log@1.0.0";

export const error = (text) => log("error", String(text));
export const warn = (text) => log("warn", String(text));
export const info = (text) => log("info", String(text));
export const debug = (text) => log("debug", String(text));

class Verdict {
    constructor(tag, val) {
        this.verdict = { tag, val };
        this.annotations = [];
    }

    /** Notes something beside the verdict: later plugins see it, and it is stored with the message. */
    annotate(key, value) {
        this.annotations.push({ key, value: String(value) });
        return this;
    }
}

/** What an edit is about. Few plugins read its body, so it is parsed when it is asked for. */
class Edited {
    #text;
    #body;

    constructor({ messageId, version, body }) {
        this.messageId = Number(messageId);
        this.version = version;
        this.#text = body;
    }

    get body() {
        return (this.#body ??= JSON.parse(this.#text));
    }
}

class Admission {
    constructor(decision) {
        this.decision = decision;
    }
}

/** The message stands as it is. */
export const accept = () => new Verdict("accept");

/** The message is refused; the sender sees the token, [a-z0-9_.-], and the sentence. */
export const reject = (code, reason, { retryAfterMs = null } = {}) => new Verdict("reject", { code, reason, retryAfterMs });

/** The message goes on with this body. For filters alone. */
export const replace = (body) => new Verdict("replace", JSON.stringify(body));

/** The sender is acknowledged, nothing is stored, nobody is told. If it is an edit, what stood before goes on standing. */
export const discard = () => new Verdict("discard");

/** The message waits for a review. If it is an edit, what stood before goes on standing until then. */
export const hold = (reason) => new Verdict("hold", reason);

/** The join goes on. */
export const allow = () => new Admission({ tag: "allow" });

/** The join is refused; the user sees the token, [a-z0-9_.-], and the sentence. */
export const refuse = (code, reason, { retryAfterMs = null } = {}) =>
    new Admission({ tag: "refuse", val: { code, reason, retryAfterMs } });

/** The configuration over its defaults. A key without a default, or a value of another kind, is an error for the operator. */
export function settings(config, defaults) {
    const kind = (value) => (Array.isArray(value) ? "array" : typeof value);
    for (const [key, value] of Object.entries(config)) {
        if (!Object.hasOwn(defaults, key)) {
            throw new Error(`unknown key "${key}"; there are ${Object.keys(defaults).join(", ")}`);
        }
        if (kind(value) !== kind(defaults[key])) {
            throw new Error(`"${key}" must be of the kind ${kind(defaults[key])}`);
        }
    }
    return { ...defaults, ...config };
}

/**
 * What the gateway calls: `configure`, and a hook for each method of that name. An exception in a hook fails the call, and
 * its stack is in the gateway's log.
 */
export function plugin(Rule) {
    let rule;
    const told = (work) => {
        try {
            return work();
        } catch (thrown) {
            error(`uncaught ${thrown}\n${thrown?.stack ?? ""}`);
            throw thrown;
        }
    };
    const ask = (hook, message) =>
        told(() => {
            const edits = message.edits ? new Edited(message.edits) : null;
            const verdict = rule[hook]({ ...message, body: JSON.parse(message.body), edits });
            if (!(verdict instanceof Verdict)) {
                throw new TypeError(`${hook} must return a verdict, such as accept()`);
            }
            return verdict;
        });
    const onJoin = (join) =>
        told(() => {
            const admission = rule.onJoin(join);
            if (!(admission instanceof Admission)) {
                throw new TypeError("onJoin must return allow() or refuse(code, reason)");
            }
            return admission.decision;
        });
    const hooks = {
        validate: (message) => ask("validate", message),
        filter: (message) => ask("filter", message),
        onJoin,
    };
    const written = Object.entries(hooks).filter(([name]) => typeof Rule.prototype[name] === "function");
    return {
        // `rule` is for the build, which compares the class with what is exported.
        configure: {
            rule: Rule,
            configure(text) {
                try {
                    rule = new Rule(JSON.parse(text));
                } catch (thrown) {
                    debug(`${thrown}\n${thrown?.stack ?? ""}`);
                    throw String(thrown?.message ?? thrown);
                }
            },
        },
        ...Object.fromEntries(written.map(([name, call]) => [name, { rule: Rule, [name]: call }])),
    };
}
