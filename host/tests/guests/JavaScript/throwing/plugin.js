// Throws where it is told to.

import { accept, plugin } from "../../../../../plugin-sdk/javascript/arcyou.js";

class Throwing {
    constructor({ refuse }) {
        if (refuse) {
            throw new Error(refuse);
        }
    }

    validate({ body }) {
        return body.text === "nothing" ? undefined : body.text === "throw" ? lookUp(body.absent) : accept();
    }
}

const lookUp = (nothing) => nothing.field;

export const { configure, validate } = plugin(Throwing);
