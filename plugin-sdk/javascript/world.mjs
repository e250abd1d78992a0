// Writes the WIT world of a plugin, for the tool that makes a component of it:
//
//     node world.mjs plugin.js DIR
//
// The world has the hooks that the plugin's module exports, and the interfaces that it imports, by itself or through
// the SDK's modules. To know them, the module is loaded here, with imports that do nothing. What looks like a slip of
// the author is an error.

import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { register } from "node:module";
import { basename, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const VERSION = "1.0.0";
/** Exports of a plugin's module, with their interfaces. */
const HOOKS = { configure: "configure", validate: "validate", filter: "filter", onJoin: "on-join" };
/** Interfaces that a plugin may import, with their functions. */
const IMPORTS = {
    log: ["log"],
    clock: ["nowMs"],
    random: ["bytes", "number"],
    kv: ["get", "set", "delete", "increment"],
    http: ["send"],
};
const PREFIX = "arcyou:gateway/";

const [file, out] = process.argv.slice(2);

/** The source of a module that stands for an interface, and notes that it is used. */
function standIn(name) {
    const functions = IMPORTS[name].map((each) => `const f_${each} = () => {}; export { f_${each} as ${each} };`);
    return `globalThis.imported.add("${name}");\n${functions.join("\n")}`;
}

const sources = Object.fromEntries(Object.keys(IMPORTS).map((name) => [`${PREFIX}${name}@${VERSION}`, standIn(name)]));
const known = Object.keys(sources).join(", ");
const hooks = `
    const sources = ${JSON.stringify(sources)};
    export async function resolve(specifier, context, next) {
        if (!specifier.startsWith("${PREFIX}")) return next(specifier, context);
        if (!Object.hasOwn(sources, specifier)) throw new Error("there is no " + specifier + " to import: ${known}");
        return { url: specifier, shortCircuit: true };
    }
    export async function load(url, context, next) {
        if (Object.hasOwn(sources, url)) return { format: "module", source: sources[url], shortCircuit: true };
        const isModule = url.startsWith("file:") && url.endsWith(".js") && !url.includes("/node_modules/");
        return next(url, isModule ? { ...context, format: "module" } : context);
    }`;

/** Whether somebody who wrote `word` may have meant `name`: the same letters, or one is missing. */
function isNear(word, name) {
    const [a, b] = [word, name].map((text) => text.toLowerCase().replace(/[^a-z]/g, ""));
    const sorted = (text) => [...text].sort().join("");
    const without = (text, at) => text.slice(0, at) + text.slice(at + 1);
    return sorted(a) === sorted(b) || [...b].some((_, at) => without(b, at) === a);
}

const meant = (word) => Object.keys(HOOKS).find((hook) => isNear(word, hook));
const hint = (word) => (meant(word) ? `; did you mean ${meant(word)}?` : "");

/** What is wrong with the module's exports. */
function* slips(module) {
    const names = Object.keys(module);
    const rule = names.map((name) => module[name]?.rule).find((rule) => rule !== undefined);
    for (const name of names.filter((name) => !Object.hasOwn(HOOKS, name))) {
        yield `it exports ${name}, which no gateway calls${hint(name)} The exports are ${Object.keys(HOOKS).join(", ")}.`;
    }
    if (!names.some((name) => name !== "configure" && Object.hasOwn(HOOKS, name))) {
        yield "it exports none of the hooks validate, filter and onJoin.";
    }
    for (const name of names.filter((name) => Object.hasOwn(HOOKS, name) && typeof module[name]?.[name] !== "function")) {
        yield `it exports ${name}, and ${rule?.name ?? "there"} has no method ${name}.`;
    }
    if (rule === undefined) {
        return;
    }
    if (!names.includes("configure")) {
        yield "it does not export configure, without which its class is never made.";
    }
    for (const method of Object.getOwnPropertyNames(rule.prototype).filter((method) => method !== "constructor")) {
        if (Object.hasOwn(HOOKS, method) && !names.includes(method)) {
            yield `${rule.name} has the method ${method}, and it is not exported.`;
        } else if (!Object.hasOwn(HOOKS, method) && meant(method) && !rule.prototype[meant(method)]) {
            yield `${rule.name} has the method ${method}, which no gateway calls${hint(method)}`;
        }
    }
}

function fail(problems) {
    problems.forEach((problem) => console.error(`${basename(file)}: ${problem}`));
    process.exit(1);
}

globalThis.imported = new Set(["log"]);
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
const module = await import(pathToFileURL(resolve(file)).href).catch((error) => fail([error.stack ?? String(error)]));
const problems = [...slips(module)];
if (problems.length > 0) {
    fail(problems);
}
const lines = [
    "package arcyou:plugin;",
    "world plugin {",
    ...[...globalThis.imported].map((name) => `  import ${PREFIX}${name}@${VERSION};`),
    ...Object.keys(module).map((name) => `  export ${PREFIX}${HOOKS[name]}@${VERSION};`),
    "}",
];
mkdirSync(join(out, "deps"), { recursive: true });
cpSync(fileURLToPath(new URL(`../wit/${VERSION}`, import.meta.url)), join(out, "deps/gateway"), { recursive: true });
writeFileSync(join(out, "world.wit"), `${lines.join("\n")}\n`);
