// Refuses messages that call too many people at once, and those that call everybody unless the sender may.
//
// A mention is @ and a name, in any alphabet and any width; bob@example.com mentions nobody. How many people a message
// mentions is noted with it.

import { accept, plugin, reject, settings } from "../../../plugin-sdk/javascript/arcyou.js";

const AT = /[@＠﹫]/;
const MENTION = /@(?<![\p{L}\p{N}_.+-]@)[\p{L}\p{N}_](?:[\p{L}\p{M}\p{N}_.-]*[\p{L}\p{M}\p{N}_])?/gu;
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
        // Most texts have none, and to normalise one costs more than all the rest.
        if (typeof text !== "string" || !AT.test(text)) {
            return accept();
        }
        // Not matchAll: it compiles the expression anew for each text.
        const names = new Set(text.normalize("NFKC").match(MENTION)?.map((mention) => fold(mention.slice(1))));
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

const fold = (name) => name.normalize("NFKC").toLowerCase();

// A Korean particle may follow at once: @everyone은.
const calls = (name, word) => name === word || (name.startsWith(word) && HANGUL.test(name.slice(word.length)) && !HANGUL.test(word));

export const { configure, validate } = plugin(MentionLimit);
