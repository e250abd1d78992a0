// Refuses messages that call too many people at once, and those that call everybody unless the sender may.
//
// A mention is @ and a name, in any alphabet and any width; bob@example.com mentions nobody. Of a name the first 40
// characters count. How many people a message mentions is noted with it. An edit may mention whom a message may.

import { accept, plugin, reject, settings } from "../../../plugin-sdk/javascript/arcyou.js";

const SIGNS = ["@", "＠", "﹫"];
// Normalising a text and searching it costs microseconds a character, so no more is read than what people write: the name
// behind each sign, and some signs more than people may be mentioned.
const MAX_NAME = 40; // characters
const MORE_SIGNS = 40;
const OF_A_MAIL_ADDRESS = /[\p{L}\p{N}_.+-]$/u;
const NAME = /^[\p{L}\p{N}_](?:[\p{L}\p{M}\p{N}_.-]*[\p{L}\p{M}\p{N}_])?/u;
const HANGUL = /^\p{Script=Hangul}/u;

class MentionLimit {
    constructor(config) {
        this.config = settings(config, {
            max: 5, // people in one message
            everybody: ["all", "channel", "everyone", "here", "모두"], // names that call everybody
            everybody_roles: ["admin", "moderator", "owner"], // who may use them
            field: "text",
        });
        if (!Number.isInteger(this.config.max) || this.config.max < 0) {
            throw new Error('"max" must be a whole number from 0');
        }
        this.everybody = this.config.everybody.map(fold);
    }

    validate({ body, senderRole }) {
        const text = body[this.config.field];
        if (typeof text !== "string") {
            return accept();
        }
        const maxSigns = 2 * this.config.max + MORE_SIGNS;
        const signs = places(text, maxSigns + 1);
        if (signs.length === 0) {
            return accept();
        }
        if (signs.length > maxSigns) {
            return reject("too_many_mentions", `the message has more than ${maxSigns} @ signs`);
        }
        const names = new Set(signs.map((at, index) => mentioned(text, at, signs[index - 1], signs[index + 1])));
        names.delete(undefined);
        const loud = [...names].find((name) => this.everybody.some((word) => calls(name, word)));
        if (loud && !this.config.everybody_roles.includes(senderRole)) {
            return reject("mentions_everybody", `@${loud} is for ${this.config.everybody_roles.join(", ")}`);
        }
        if (names.size > this.config.max) {
            return reject("too_many_mentions", `the message mentions ${names.size} people, ${this.config.max} are allowed`);
        }
        return names.size > 0 ? accept().annotate("mentions", names.size) : accept();
    }
}

// Where there is a sign, up to a number of signs.
function places(text, most) {
    const found = [];
    for (const sign of SIGNS) {
        for (let at = text.indexOf(sign); at >= 0 && found.length < most; at = text.indexOf(sign, at + 1)) {
            found.push(at);
        }
    }
    return found.sort((one, other) => one - other);
}

// The name behind the sign that is here, unless the sign is part of a mail address.
function mentioned(text, at, before = -1, behind = text.length) {
    const local = text.slice(Math.max(before + 1, at - 2), at).normalize("NFKC");
    if (OF_A_MAIL_ADDRESS.test(local)) {
        return undefined;
    }
    const name = text.slice(at + 1, Math.min(behind, at + 1 + MAX_NAME)).normalize("NFKC").slice(0, MAX_NAME);
    const [found] = NAME.exec(name) ?? [];
    return found && fold(found);
}

const fold = (name) => name.normalize("NFKC").toLowerCase();

// A Korean particle may follow at once: @everyone은.
const calls = (name, word) => name === word || (name.startsWith(word) && HANGUL.test(name.slice(word.length)) && !HANGUL.test(word));

export const { configure, validate } = plugin(MentionLimit);
