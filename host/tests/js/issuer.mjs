// An issuer of tokens that a test commands: one JSON object per line in, one per line out.
//
//   node issuer.mjs PORT ISSUER [KEY_FILE CERTIFICATE_FILE]
//
// Keys, tokens and their publication at /jwks are those of `oauth2-mock-server`. In front of it stands what makes an
// issuer fail: it can be away, silent, or answer something else.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { createInterface } from 'node:readline';
import { OAuth2Issuer, OAuth2Service } from 'oauth2-mock-server';

const [port, name, ...tls] = process.argv.slice(2);
let issuer = new OAuth2Issuer();
issuer.url = name;
let service = new OAuth2Service(issuer);
/** Requests for the keys. */
let requests = 0;
/** What is answered instead of the keys: `silence`, or what is sent. */
let instead;
/** Requests that get no answer. */
const unanswered = new Set();

const serve = (request, response) => {
  // A connection that is kept would outlive a server that is away.
  response.setHeader('connection', 'close');
  if (!request.url.startsWith('/jwks')) return service.requestHandler(request, response);
  requests += 1;
  if (instead === undefined) return service.requestHandler(request, response);
  if (instead === 'silence') return unanswered.add(response);
  response.writeHead(instead.status ?? 200, instead.headers ?? {});
  response.end(instead.body ?? 'x'.repeat(instead.bytes ?? 0));
};
const [key, cert] = tls.map((file) => readFileSync(file));
const server = cert ? createSecureServer({ key, cert }, serve) : createServer(serve);

const listen = () => new Promise((resolve) => server.listen(Number(port), '127.0.0.1', resolve));

const actions = {
  /** A new key beside the others. */
  async generate({ alg, kid }) {
    await issuer.keys.generate(alg, { kid });
  },
  /** Publishes this key no more. */
  async withdraw({ kid }) {
    const kept = issuer.keys.toJSON(true).filter((key) => key.kid !== kid);
    issuer = new OAuth2Issuer();
    issuer.url = name;
    for (const key of kept) await issuer.keys.add(key);
    service = new OAuth2Service(issuer);
  },
  /** A token with these claims besides the usual ones; `null` takes one away. */
  async token({ kid, claims = {}, header = {} }) {
    const transform = (head, payload) => {
      Object.assign(head, header);
      for (const [name, value] of Object.entries(claims)) {
        if (value === null) delete payload[name];
        else payload[name] = value;
      }
    };
    return issuer.buildToken({ kid, scopesOrTransform: transform });
  },
  async requests() {
    return requests;
  },
  async away() {
    await new Promise((resolve) => (server.close(resolve), server.closeAllConnections()));
  },
  async back() {
    await listen();
  },
  async answer({ with: what }) {
    instead = what ?? undefined;
    for (const response of unanswered) response.destroy();
    unanswered.clear();
  },
};

await listen();
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const { do: action, ...options } = JSON.parse(line);
  say({ result: (await actions[action](options)) ?? null });
}
process.exit(0);
