// Throws where it is told to, and tells what is edited.

import { accept, plugin } from "../../../../../plugin-sdk/javascript/arcyou.js";

class Throwing {
    constructor({ refuse }) {
        if (refuse) {
            throw new Error(refuse);
        }
    }

    validate({ body, edits }) {
        if (body.text === "edits") {
            const seen = edits && [edits.messageId, edits.version, JSON.stringify(edits.body), edits.body === edits.body];
            return accept().annotate("edits", seen === null ? "nothing" : seen.join(" "));
        }
        return body.text === "nothing" ? undefined : body.text === "throw" ? lookUp(body.absent) : accept();
    }
}

const lookUp = (nothing) => nothing.field;

export const { configure, validate } = plugin(Throwing);
