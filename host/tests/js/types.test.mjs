// The types of the reference client say what its comments say, and are of use.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/** What the compiler complains of fails the test. */
async function tsc(...args) {
  const compiler = here('node_modules/typescript/bin/tsc');
  await promisify(execFile)(process.execPath, [compiler, ...args]).catch(({ stdout }) => assert.fail(stdout));
}

test('the declarations are those of the source: npm run types, in this folder, makes them anew', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'arcyou-types-'));
  t.after(() => rm(folder, { recursive: true }));
  await tsc('-p', here('types/declaration.json'), '--outDir', folder);
  for (const name of ['arcyou-client.d.ts', 'arcyou-room.d.ts']) {
    const [made, kept] = await Promise.all([join(folder, name), here(`../../web/${name}`)].map((path) => readFile(path, 'utf8')));
    assert.equal(kept, made);
  }
});

test('an application in strict TypeScript compiles, and its mistakes do not', () => tsc('-p', here('types/usage.json')));
