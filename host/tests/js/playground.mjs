// Opens the playground of `arcyou-gateway dev` in Chromium and does what a newcomer would.
//
//   node playground.mjs http://127.0.0.1:8080/ [FOLDER_FOR_SCREENSHOTS]
import assert from 'node:assert/strict';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

import { chromium } from 'playwright-core';

const [url, screenshots] = process.argv.slice(2);
if (!url) {
  console.error('usage: playground.mjs URL [FOLDER_FOR_SCREENSHOTS]');
  process.exit(2);
}

/** The browser that this machine has; setup.sh installs Debian's. */
function installed() {
  const folders = process.env.PATH.split(delimiter);
  const places = ['chromium', 'chromium-browser', 'google-chrome'].flatMap((name) => folders.map((folder) => join(folder, name)));
  const isThere = (path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  };
  const found = [...places, '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'].find(isThere);
  return found ?? assert.fail('there is no Chromium: host/local-services/setup.sh test installs it');
}

const args = ['--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
// Chromium's sandbox needs an account that is not root.
if (process.getuid?.() === 0) args.push('--no-sandbox');
const browser = await chromium.launch({ executablePath: installed(), args });
const page = await browser.newPage({ viewport: { width: 1200, height: 1000 } });
page.setDefaultTimeout(60_000);
const troubles = [];
page.on('console', (message) => message.type() === 'error' && troubles.push(message.text()));
page.on('pageerror', (error) => troubles.push(String(error)));

const pane = (name) => page.locator('.pane', { has: page.getByRole('heading', { name, exact: true }) });
const [alice, bob] = [pane('Alice'), pane('Bob')];
/** Messages with this text, drafts left out. */
const said = (by, text) => by.locator('.message:not(.draft)', { has: page.locator('.text', { hasText: text }) });
/** Does with a message what one of its buttons says. */
async function act(by, text, name) {
  const message = said(by, text);
  await message.getByRole('button', { name: 'Actions' }).click();
  await message.getByRole('button', { name, exact: true }).click();
}
async function write(by, text, button = 'Send') {
  await by.getByRole('textbox').fill(text);
  await by.getByRole('button', { name: button }).click();
}
const attempt = (text) => page.locator('#tries').getByRole('button', { name: text }).click();
const shot = (name) => screenshots && page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true });
const online = () => page.waitForFunction(() => document.querySelectorAll('.pane[data-state=online]').length === 2);

async function whatPluginsDo() {
  await attempt('Hello, Bob!');
  await said(bob, 'Hello, Bob!').waitFor();
  await attempt('What a badword.');
  await said(bob, 'What a *******.').waitFor();
  await said(alice, 'What a *******.').waitFor();
  await attempt('This is forbidden.');
  await alice.locator('.refused .note', { hasText: 'Refused by word-filter' }).waitFor();
  await attempt('I plan a surprise.');
  await alice.locator('.draft .note', { hasText: 'Held' }).waitFor();
  await page.locator('#held').getByText('I plan a surprise.').waitFor();
  await shot('held');
  const command = await page.locator('#held code').textContent();
  const release = command.match(/^curl -X POST (http:\S+)$/)[1];
  assert.equal((await fetch(release, { method: 'POST' })).status, 200);
  await said(bob, 'I plan a surprise.').waitFor();
  await page.locator('#held').waitFor({ state: 'hidden' });
  assert.equal(await alice.locator('.draft:not(.refused)').count(), 0, 'no draft is left of what was released');
  await alice.locator('.refused').getByRole('button', { name: 'Dismiss' }).click();
  assert.equal(await bob.locator('.message').count(), 3, 'and Bob saw no other');
}

async function whatWasSaidChanges() {
  await act(alice, 'Hello, Bob!', 'Edit');
  assert.equal(await alice.getByRole('textbox').inputValue(), 'Hello, Bob!');
  await write(alice, 'Hello, dear Bob!', 'Save');
  await said(bob, 'Hello, dear Bob!').locator('.edited').waitFor();
  await act(bob, 'Hello, dear Bob!', 'React with ❤️');
  const reaction = (by, count) => said(by, 'Hello, dear Bob!').getByRole('button', { name: `❤️ ${count}`, exact: true });
  await reaction(alice, 1).click();
  await Promise.all([alice, bob].map((by) => reaction(by, 2).waitFor()));
  await reaction(alice, 2).click();
  await reaction(alice, 1).waitFor();
  const pressed = await Promise.all([alice, bob].map((by) => reaction(by, 1).getAttribute('aria-pressed')));
  assert.deepEqual(pressed, ['false', 'true']);
  await act(bob, 'Hello, dear Bob!', 'Reply');
  await write(bob, 'Hello, Alice!');
  await said(alice, 'Hello, Alice!').locator('.quote', { hasText: 'Alice: Hello, dear Bob!' }).waitFor();
  await act(alice, 'What a *******.', 'Delete');
  await Promise.all([alice, bob].map((by) => said(by, 'This message was deleted.').waitFor()));
  assert.equal(await said(bob, 'What a *******.').count(), 0);
  await said(bob, 'I plan a surprise.').getByRole('button', { name: 'Actions' }).click();
  await shot('changes');
  assert.equal(await said(bob, 'I plan a surprise.').getByRole('button', { name: 'Edit' }).count(), 0, 'what is not his own');
  await said(bob, 'I plan a surprise.').getByRole('button', { name: 'Actions' }).click();
}

async function textIsText() {
  const markup = '<img src=x onerror="document.title = 1"><b>bold</b>';
  await write(bob, markup);
  await said(alice, markup).waitFor();
  assert.equal(await page.locator('.text *').count(), 0);
  assert.equal(await page.title(), 'ArcYou playground');
}

async function nothingIsLost() {
  await bob.getByRole('button', { name: 'Disconnect' }).click();
  await alice.getByRole('textbox').fill('Are you there?');
  await alice.getByRole('textbox').press('Enter');
  await said(alice, 'Are you there?').waitFor();
  assert.equal(await said(bob, 'Are you there?').count(), 0);
  await bob.getByRole('button', { name: 'Connect' }).click();
  await said(bob, 'Are you there?').waitFor();
  const seen = (by) => by.locator('.text, .reactions button, .quote:not([hidden])').allTextContents();
  assert.deepEqual(await seen(bob), await seen(alice));
  await bob.getByRole('button', { name: 'Disconnect' }).click();
  await write(bob, 'I say it all the same.');
  await bob.locator('.draft', { hasText: 'I say it all the same.' }).waitFor();
  await bob.getByRole('button', { name: 'Connect' }).click();
  await said(alice, 'I say it all the same.').waitFor();
  await said(bob, 'I say it all the same.').waitFor();
  assert.equal(await bob.locator('.draft').count(), 0, 'what waited has become the message');
  await page.reload();
  await online();
  await said(bob, 'I say it all the same.').waitFor();
  await said(alice, 'I say it all the same.').waitFor();
  assert.deepEqual(await seen(bob), await seen(alice));
  assert.deepEqual([await bob.locator('.text').count(), await bob.locator('.deleted').count()], [7, 1]);
}

async function fitsAndIsConfined() {
  const width = () => page.evaluate(() => document.documentElement.scrollWidth);
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await shot('wide');
  const light = await paper();
  await page.emulateMedia({ colorScheme: 'dark' });
  assert.notEqual(await paper(), light);
  await shot('dark');
  for (const narrow of [390, 360]) {
    await page.setViewportSize({ width: narrow, height: 740 });
    assert.ok((await width()) <= narrow, `${await width()} pixels on a phone of ${narrow}`);
    await shot(`phone-${narrow}`);
  }
  for (const path of ['/', '/playground/playground.js', '/playground/arcyou-room.js', '/playground/held.json']) {
    const { headers, status } = await fetch(new URL(path, url));
    assert.equal(status, 200);
    assert.match(headers.get('content-security-policy'), /default-src 'none'; script-src 'self'; .*frame-ancestors 'none'/);
    assert.equal(headers.get('x-content-type-options'), 'nosniff');
  }
}

try {
  await page.goto(url);
  await online();
  for (const step of [whatPluginsDo, whatWasSaidChanges, textIsText, nothingIsLost, fitsAndIsConfined]) await step();
  assert.deepEqual(troubles, []);
} catch (error) {
  await shot('failed');
  console.error(error, troubles, await page.locator('body').innerText());
  process.exitCode = 1;
} finally {
  await browser.close();
}
