// An OpenID provider that a test commands as it commands issuer.mjs: `oidc-provider`, a certified implementation, with
// one application that gets tokens for itself.
//
//   node oidc-issuer.mjs PORT

import { generateKeyPairSync } from 'node:crypto';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const audience = 'https://chat.example';
const key = (type, options, alg) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: `${alg}-key`,
});
const provider = new Provider(issuer, {
  jwks: { keys: [key('rsa', { modulusLength: 2048 }, 'RS256'), key('ec', { namedCurve: 'P-256' }, 'ES256')] },
  clients: [
    {
      client_id: 'bot', client_secret: 'not-a-secret', grant_types: ['client_credentials'], redirect_uris: [],
      response_types: [],
    },
  ],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_context, resource) => ({
        scope: 'chat', audience, accessTokenFormat: 'jwt',
        jwt: { sign: { alg: new URL(resource).pathname === '/es256' ? 'ES256' : 'RS256' } },
      }),
    },
  },
});

const server = provider.listen(port, '127.0.0.1');
await new Promise((resolve) => server.once('listening', resolve));
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const { do: action, alg } = JSON.parse(line);
  if (action === 'discover') {
    const found = await fetch(`${issuer}/.well-known/openid-configuration`);
    say({ result: await found.json() });
  } else {
    const body = new URLSearchParams({ grant_type: 'client_credentials', resource: `https://chat.example/${alg}` });
    const headers = { authorization: `Basic ${Buffer.from('bot:not-a-secret').toString('base64')}` };
    const answer = await fetch(`${issuer}/token`, { method: 'POST', headers, body });
    say({ result: await answer.json() });
  }
}
process.exit(0);
