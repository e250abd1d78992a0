// The playground of `arcyou-gateway dev`: two users of the reference client beside each other. What is said is only ever set as text.
import { ArcYouClient } from './arcyou-client.js';

const TRIES = [
  { text: 'Hello, Bob!', effect: 'Bob has it at once.' },
  { text: 'What a badword.', effect: 'A plugin masks a word.' },
  { text: 'This is forbidden.', effect: 'A plugin refuses it.' },
  { text: 'I plan a surprise.', effect: 'A plugin holds it for review.' },
];
const HISTORY = 50;
/** How often held messages are looked for while there are any: nobody tells a sender of a refusal. */
const LOOK_AGAIN_MS = 3000;

const get = async (name) => {
  const reply = await fetch(`/playground/${name}`);
  if (!reply.ok) throw new Error(`/playground/${name} was answered with ${reply.status}`);
  return reply.json();
};
const part = (template) => document.getElementById(template).content.firstElementChild.cloneNode(true);
const textOf = (body) => (typeof body?.text === 'string' ? body.text : JSON.stringify(body));
const timeOf = (at) => new Date(at ?? Date.now()).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });

class Pane {
  element = part('pane');
  #list = this.element.querySelector('.messages');
  /** What is shown, by the message's id. */
  #shown = new Map();
  /** What was sent and is no message yet, by `temp_id`. */
  #drafts = new Map();
  #drafted = 0;
  #chat;
  #seq;

  constructor(user, config) {
    this.user = user;
    this.config = config;
    const find = (selector) => this.element.querySelector(selector);
    const input = find('input');
    find('h2').textContent = user.name;
    find('.face').textContent = user.name[0];
    this.#list.setAttribute('aria-label', `What ${user.name} sees`);
    input.placeholder = `Write as ${user.name}`;
    input.setAttribute('aria-label', input.placeholder);
    find('form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.say(input.value);
      input.value = '';
    });
    find('.link').addEventListener('click', () => (this.#chat ? this.#disconnect() : this.#connect()));
    this.#connect();
  }

  async #connect() {
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    const chat = new ArcYouClient(`${scheme}://${location.host}/ws`, {
      token: () => this.user.id,
      onEvent: (event) => event.type === 'message.created' && this.#heard(event),
      onState: (state, why) => this.#state(state, why),
      onReset: () => this.#readAnew(),
      onLost: (_, error) => this.#state('lost', { reason: error.message }),
    });
    this.#chat = chat;
    try {
      await chat.join(this.config.conversation, { afterSeq: this.#seq });
      if (this.#seq === undefined) await this.#readAnew();
    } catch (error) {
      if (chat === this.#chat) this.#state('lost', { reason: error.message });
    }
  }

  #disconnect() {
    this.#seq = this.#chat.lastSeq(this.config.conversation);
    this.#chat.close();
    this.#chat = undefined;
    this.#state('disconnected');
  }

  async #readAnew() {
    for (const item of this.#shown.values()) item.remove();
    this.#shown.clear();
    const page = await this.#chat.history(this.config.conversation, { limit: HISTORY });
    for (const message of page.messages) this.#show(message);
  }

  #state(state, why) {
    const words = { waiting: `waiting: ${why?.reason}`, stopped: why?.reason, lost: why?.reason };
    const text = this.#chat ? (words[state] ?? state) : 'disconnected';
    Object.assign(this.element.querySelector('.state'), { textContent: text, title: text });
    this.element.querySelector('.link').textContent = this.#chat ? 'Disconnect' : 'Connect';
    this.element.dataset.state = this.#chat ? state : 'disconnected';
  }

  /** A message is a draft until the gateway has answered: a plugin may change it, hold it or refuse it. */
  async say(text) {
    const tempId = `${this.user.name}-${(this.#drafted += 1)}`;
    const draft = this.#item({ sender_id: this.user.id, body: { text } });
    draft.classList.add('draft');
    this.#drafts.set(tempId, draft);
    this.#list.append(draft);
    this.#scroll();
    try {
      if (!this.#chat) throw new Error('connect first');
      this.#answered(await this.#chat.send(this.config.conversation, { text }, { tempId }), tempId, text);
    } catch (error) {
      const plugin = error.reply?.plugin;
      draft.classList.add('refused');
      this.#note(draft, `${plugin ? `Refused by ${plugin}` : 'Not sent'}: ${error.message}`);
    }
  }

  #answered(reply, tempId, text) {
    if (reply.status === 'stored') {
      this.#forget(tempId);
      const { message_id: id, seq, created_at } = reply;
      const item = this.#show({ id, seq, created_at, sender_id: this.user.id, body: reply.body ?? { text } });
      if (reply.body) this.#note(item, 'A plugin changed this before it was stored.');
    } else if (reply.status === 'held') {
      this.#note(this.#drafts.get(tempId), 'Held: nobody sees it until it is released. See below.');
      showHeld(this.config);
    } else {
      this.#note(this.#drafts.get(tempId), 'A plugin dropped it without a word to the others.');
    }
  }

  #heard({ message, temp_id: tempId }) {
    this.#forget(tempId);
    const isReleased = message.sender_id === this.user.id && !this.#shown.has(message.id);
    // Drawn from the reply perhaps; the event is what everybody sees.
    this.#show(message).querySelector('.text').textContent = textOf(message.body);
    if (isReleased) this.#forgetHeld(textOf(message.body));
  }

  #forget(tempId) {
    this.#drafts.get(tempId)?.remove();
    this.#drafts.delete(tempId);
  }

  /** A message that was released is a new one: only its text tells which draft it was. */
  #forgetHeld(text) {
    const isOf = ([, draft]) => !draft.querySelector('.note').hidden && draft.querySelector('.text').textContent === text;
    const [tempId] = [...this.#drafts].find(isOf) ?? [];
    if (tempId !== undefined) this.#forget(tempId);
    showHeld(this.config);
  }

  /** Each message once, in the order of `seq`, drafts last. */
  #show(message) {
    const known = this.#shown.get(message.id);
    if (known) return known;
    const item = this.#item(message);
    const after = [...this.#shown.values()].find((other) => Number(other.dataset.seq) > message.seq);
    item.dataset.seq = message.seq;
    this.#shown.set(message.id, item);
    const draft = [...this.#drafts.values()].find(({ isConnected }) => isConnected);
    this.#list.insertBefore(item, after ?? draft ?? null);
    this.#sort();
    this.#scroll();
    return item;
  }

  /** The map in the order in which it is shown. */
  #sort() {
    this.#shown = new Map([...this.#shown].sort(([, a], [, b]) => a.dataset.seq - b.dataset.seq));
  }

  #item({ sender_id: sender, body, created_at: at }) {
    const item = part('message');
    const name = this.config.users.find(({ id }) => id === sender)?.name ?? sender;
    item.classList.toggle('own', sender === this.user.id);
    item.querySelector('b').textContent = name;
    item.querySelector('time').textContent = timeOf(at);
    item.querySelector('.text').textContent = textOf(body);
    return item;
  }

  #note(item, text) {
    const note = item.querySelector('.note');
    note.hidden = false;
    note.querySelector('span').textContent = text;
    const isDraft = item.classList.contains('draft');
    note.querySelector('button').addEventListener('click', () => (isDraft ? item.remove() : (note.hidden = true)));
    this.#scroll();
  }

  #scroll() {
    this.#list.scrollTop = this.#list.scrollHeight;
  }
}

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
    item.querySelector('b').textContent = config.users.find(({ id }) => id === message.sender_id)?.name ?? message.sender_id;
    item.querySelector('q').textContent = textOf(JSON.parse(message.body));
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
  const panes = config.users.map((user) => new Pane(user, config));
  document.getElementById('panes').replaceChildren(...panes.map(({ element }) => element));
  offerTries(panes[0]);
  await showHeld(config);
} catch (error) {
  const trouble = document.getElementById('trouble');
  trouble.hidden = false;
  trouble.textContent = `${error.message}. Is make dev still running?`;
}
