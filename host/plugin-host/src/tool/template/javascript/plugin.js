// Turns shouting into speech.

import { accept, plugin, replace, settings } from "./{{sdk}}/javascript/arcyou.js";

class {{type}} {
    /** The table [plugin.config] in plugins.toml. An exception rejects it; its message tells the operator why. */
    constructor(config) {
        this.config = settings(config, {
            min_chars: 6, // shorter texts, such as "OK", may be in capitals
            allowed_roles: [], // roles that may shout
        });
    }

    /**
     * A filter may change the message. A plugin that only accepts or rejects messages has `validate` instead, and exports
     * that. Both are asked about edits too: `edits` tells what is edited.
     */
    filter({ body, senderRole }) {
        const { text } = body;
        const shouts = typeof text === "string" && /\p{Lu}/u.test(text) && !/\p{Ll}/u.test(text);
        if (!shouts || [...text].length < this.config.min_chars || this.config.allowed_roles.includes(senderRole)) {
            return accept();
        }
        return replace({ ...body, text: text.toLowerCase() }).annotate("shouted", "yes");
    }
}

export const { configure, filter } = plugin({{type}});
