// The playground of `arcyou-gateway dev`: two users of the reference client beside each other.
import { Pane, part, textOf } from './pane.js';

const TRIES = [
  { text: 'Hello, Bob!', effect: 'Bob has it at once.' },
  { text: 'What a badword.', effect: 'A plugin masks a word.' },
  { text: 'This is forbidden.', effect: 'A plugin refuses it.' },
  { text: 'I plan a surprise.', effect: 'A plugin holds it for review.' },
];
/** How often held messages are looked for while there are any: nobody tells a sender of a refusal. */
const LOOK_AGAIN_MS = 3000;

const get = async (name) => {
  const reply = await fetch(`/playground/${name}`);
  if (!reply.ok) throw new Error(`/playground/${name} was answered with ${reply.status}`);
  return reply.json();
};

let looking;
let shownHeld;

/** What waits for a decision, with the command for it: the admin address answers no web page. */
async function showHeld(config) {
  clearTimeout(looking);
  const { held } = await get('held.json');
  if (held.length > 0) looking = setTimeout(() => showHeld(config), LOOK_AGAIN_MS);
  const ids = held.map(({ id }) => id).join();
  // As it was: whoever is about to press a button finds it in its place.
  if (ids === shownHeld) return;
  shownHeld = ids;
  const items = held.map((message) => {
    const item = part('held-message');
    const command = `curl -X POST http://${config.admin}/held/${message.id}/release`;
    const name = config.users.find(({ id }) => id === message.sender_id)?.name ?? message.sender_id;
    item.querySelector('b').textContent = message.edits ? `${name}, an edit` : name;
    item.querySelector('q').textContent = textOf(message.body);
    item.querySelector('.reason').textContent = `${message.held_by}: ${message.reason}`;
    item.querySelector('code').textContent = command;
    const copy = item.querySelector('button');
    copy.hidden = !navigator.clipboard;
    copy.addEventListener('click', () => navigator.clipboard.writeText(command).then(() => (copy.textContent = 'Copied')));
    return item;
  });
  document.getElementById('held-messages').replaceChildren(...items);
  document.getElementById('held').hidden = items.length === 0;
}

function offerTries(alice) {
  const items = TRIES.map(({ text, effect }) => {
    const [item, button, caption] = ['li', 'button', 'span'].map((name) => document.createElement(name));
    caption.textContent = effect;
    button.type = 'button';
    button.append(text, caption);
    button.addEventListener('click', () => alice.say(text));
    item.append(button);
    return item;
  });
  document.getElementById('tries').replaceChildren(...items);
}

try {
  const config = await get('config.json');
  const panes = config.users.map((user) => new Pane(user, config, () => showHeld(config)));
  document.getElementById('panes').replaceChildren(...panes.map(({ element }) => element));
  offerTries(panes[0]);
  await showHeld(config);
} catch (error) {
  const trouble = document.getElementById('trouble');
  trouble.hidden = false;
  trouble.textContent = `${error.message}. Is make dev still running?`;
}
