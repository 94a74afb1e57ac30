// A real OpenID Connect provider on a free loopback port, for the tests of the token endpoint.
//
// Its first line on standard output is {"issuer": ...}. Lines on standard input change it:
//   rotate   new signing keys take the place of the former ones, as of now
//   end      stop
// The clients are those of CLIENTS; what their tokens say beside the standard claims is there as well.

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

const CLIENTS = JSON.parse(process.argv[2]);
const AUDIENCES = { 'urn:farframe': 'farframe', 'urn:other': 'other' };

function signingKeys() {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  return [
    { ...rsa.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' },
    { ...ec.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'ES256' },
  ];
}

function provider(issuer) {
  return new Provider(issuer, {
    jwks: { keys: signingKeys() },
    clients: Object.entries(CLIENTS).map(([id, { algorithm }]) => ({
      client_id: id,
      client_secret: `secret-of-${id}`,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      id_token_signed_response_alg: algorithm ?? 'RS256',
    })),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_context, resource, client) => ({
          scope: 'render',
          audience: AUDIENCES[resource],
          accessTokenFormat: 'jwt',
          accessTokenTTL: CLIENTS[client.clientId].seconds ?? 300,
          jwt: { sign: { alg: CLIENTS[client.clientId].algorithm ?? 'RS256' } },
        }),
      },
    },
    extraTokenClaims: (_context, token) => CLIENTS[token.clientId].claims ?? {},
  });
}

let callback = (_request, response) => response.writeHead(503).end();
let fetched = 0;
const server = createServer((request, response) => {
  if (request.url === '/fetched') {
    response.end(JSON.stringify(fetched));
    return;
  }
  if (request.url === '/jwks') fetched += 1;
  callback(request, response);
});
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  callback = provider(issuer).callback();
  process.stdout.write(`${JSON.stringify({ issuer })}\n`);
  createInterface({ input: process.stdin })
    .on('line', (line) => {
      if (line === 'rotate') {
        callback = provider(issuer).callback();
        process.stdout.write('rotated\n');
      } else if (line === 'end') {
        process.exit(0);
      }
    })
    .on('close', () => process.exit(0));
});
