// One person's side of the playground: the room of the reference client, drawn. What is said is only ever set as text.
import { ArcYouClient } from './arcyou-client.js';
import { ArcYouRoom } from './arcyou-room.js';

const PAGE_SIZE = 50;
const REACTIONS = ['❤️', '😄', '😮'];
/** Who is as near to the newest message as that wants to see the next one too. */
const NEAR_END_PX = 40;

export const part = (template) => document.getElementById(template).content.firstElementChild.cloneNode(true);
export const textOf = (body) => (typeof body?.text === 'string' ? body.text : JSON.stringify(body));
const timeOf = (at) => new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });

/** A message on the page. Its element stays, so that nobody loses the place of the keyboard. */
class MessageView {
  element = part('message');
  item;
  #find = (selector) => this.element.querySelector(selector);

  constructor() {
    const buttons = REACTIONS.map((reaction) => this.#button(reaction, `React with ${reaction}`));
    this.#find('.tools').prepend(...buttons);
  }

  draw(item, { name, quoted, note }) {
    if (item !== this.item) this.#drawItem(item, name);
    this.#find('.quote').hidden = quoted === undefined;
    this.#find('.quote').textContent = quoted ?? '';
    this.#find('.note').hidden = !note;
    this.#find('.note span').textContent = note ?? '';
  }

  /** Shows or hides what can be done with it. */
  open(isOpen = this.#find('.tools').hidden) {
    this.#find('.tools').hidden = !isOpen;
    this.#find('.more').setAttribute('aria-expanded', String(isOpen));
    if (isOpen) this.element.scrollIntoView({ block: 'nearest' });
  }

  #drawItem(item, name) {
    this.item = item;
    const { state, own, body, deleted_at: deleted } = item;
    const is = { own, draft: state !== 'stored', refused: state === 'failed', deleted };
    for (const [style, holds] of Object.entries(is)) this.element.classList.toggle(style, Boolean(holds));
    this.#find('b').textContent = name;
    this.#find('time').textContent = timeOf(item.created_at);
    this.#find('.edited').hidden = !item.edited_at || Boolean(deleted);
    this.#find('.text').textContent = deleted ? 'This message was deleted.' : textOf(body);
    this.#find('.more').hidden = state !== 'stored' || Boolean(deleted);
    if (this.#find('.more').hidden) this.open(false);
    for (const act of ['edit', 'delete']) this.#find(`[data-act=${act}]`).hidden = !own;
    this.#find('[data-act=retry]').hidden = state !== 'failed';
    this.#drawReactions(item.reactions);
  }

  #drawReactions(reactions) {
    const list = this.#find('.reactions');
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.reaction : undefined;
    const items = reactions.map(({ reaction, count, own }) => {
      const button = this.#button(reaction, `${reaction} ${count}`);
      button.textContent = `${reaction} ${count}`;
      button.setAttribute('aria-pressed', String(own));
      const item = document.createElement('li');
      item.append(button);
      return item;
    });
    list.replaceChildren(...items);
    list.hidden = items.length === 0;
    [...list.querySelectorAll('button')].find(({ dataset }) => dataset.reaction === focused)?.focus();
  }

  #button(reaction, label) {
    const button = document.createElement('button');
    Object.assign(button, { type: 'button', textContent: reaction });
    button.dataset.act = 'react';
    button.dataset.reaction = reaction;
    button.setAttribute('aria-label', label);
    return button;
  }
}

export class Pane {
  element = part('pane');
  #list = this.element.querySelector('.messages');
  #older = this.element.querySelector('.older');
  #input = this.element.querySelector('input');
  /** What is on the page, by the key of the item. */
  #views = new Map();
  /** What there is to say of a message beyond itself, by its key. */
  #notes = new Map();
  /** The message that is edited or answered. */
  #aim;
  #isOffline = false;
  #isAtEnd = true;
  #held = 0;
  #user; #config; #onHeld; #chat; #room;

  /** @param onHeld Called when a message is held, or is held no more. */
  constructor(user, config, onHeld) {
    [this.#user, this.#config, this.#onHeld] = [user, config, onHeld];
    const find = (selector) => this.element.querySelector(selector);
    find('h2').textContent = user.name;
    find('.face').textContent = user.name[0];
    this.#list.setAttribute('aria-label', `What ${user.name} sees`);
    this.#input.placeholder = `Write as ${user.name}`;
    this.#input.setAttribute('aria-label', this.#input.placeholder);
    this.#input.addEventListener('keydown', ({ key }) => key === 'Escape' && this.#aimAt(undefined));
    find('.aim button').addEventListener('click', () => this.#aimAt(undefined));
    find('form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit(this.#input.value);
    });
    find('.link').addEventListener('click', () => this.#toggleNetwork());
    this.#list.addEventListener('click', ({ target }) => this.#click(target.closest('button')));
    this.#list.addEventListener('scroll', () => {
      const { scrollHeight, scrollTop, clientHeight } = this.#list;
      this.#isAtEnd = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    });
    new ResizeObserver(() => this.#keepEnd()).observe(this.#list);
    this.#older.addEventListener('click', () => this.#room.loadOlder().catch(() => {}));
    this.#connect();
  }

  #connect() {
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    this.#chat = new ArcYouClient(() => this.#url(`${scheme}://${location.host}/ws`), {
      token: () => this.#user.id,
      onState: (state, why) => this.#showState(state, why?.reason),
    });
    this.#room = new ArcYouRoom(this.#chat, this.#config.conversation, { pageSize: PAGE_SIZE });
    this.#room.subscribe(() => this.#draw(this.#room.snapshot()));
  }

  #url(url) {
    if (this.#isOffline) throw new Error('disconnected');
    return url;
  }

  /** As if the network were gone: the client goes on trying, and what is said meanwhile waits. */
  #toggleNetwork() {
    this.#isOffline = !this.#isOffline;
    this.#chat.reconnect();
    if (!this.#isOffline && this.#room.snapshot().status === 'lost') this.#room.reload();
  }

  #showState(state, reason) {
    const words = { waiting: `waiting: ${reason}`, stopped: `${reason}. Reload the page.`, lost: reason };
    const shown = this.#isOffline ? 'disconnected' : state;
    const text = words[shown] ?? shown;
    Object.assign(this.element.querySelector('.state'), { textContent: text, title: text });
    this.element.querySelector('.link').textContent = this.#isOffline ? 'Connect' : 'Disconnect';
    this.element.dataset.state = shown;
  }

  // What is drawn.

  #draw({ status, error, messages, hasOlder, loadingOlder }) {
    if (status === 'lost') this.#showState('lost', error.message);
    const { scrollHeight, scrollTop } = this.#list;
    const isOlder = messages.length > 0 && !this.#views.has(messages[0].key);
    this.#place(messages);
    this.#older.hidden = !hasOlder;
    this.#older.disabled = loadingOlder;
    // Older messages come above what is read, and do not move it.
    if (isOlder) this.#list.scrollTop = scrollTop + this.#list.scrollHeight - scrollHeight;
    this.#keepEnd();
    const held = messages.filter(({ state }) => state === 'held').length;
    if (held !== this.#held) this.#onHeld();
    this.#held = held;
  }

  /** Who saw the newest message sees it now. */
  #keepEnd() {
    if (this.#isAtEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }

  /** Each message in its place; what is in its place already is not moved. */
  #place(messages) {
    const keys = new Set(messages.map(({ key }) => key));
    for (const [key, view] of [...this.#views].filter(([other]) => !keys.has(other))) {
      view.element.remove();
      this.#views.delete(key);
    }
    let next = this.#list.firstElementChild;
    for (const item of messages) {
      const view = this.#views.get(item.key) ?? new MessageView();
      this.#views.set(item.key, view);
      view.draw(item, { name: this.#nameOf(item), quoted: this.#quote(item, messages), note: this.#noteOf(item) });
      if (view.element === next) next = next.nextElementSibling;
      else this.#list.insertBefore(view.element, next);
    }
  }

  #nameOf({ sender_id: sender }) {
    return this.#config.users.find(({ id }) => id === sender)?.name ?? sender ?? this.#user.name;
  }

  #quote({ reply_to: id }, messages) {
    if (id === undefined) return undefined;
    const found = messages.find((message) => message.id === id);
    if (!found) return 'An earlier message';
    return found.deleted_at ? 'A deleted message' : `${this.#nameOf(found)}: ${textOf(found.body)}`;
  }

  #noteOf({ key, state, error }) {
    const plugin = error?.reply?.plugin;
    const notes = {
      failed: () => `${plugin ? `Refused by ${plugin}` : 'Not sent'}: ${error.message}`,
      held: () => 'Held: nobody sees it until it is released. See below.',
      discarded: () => 'A plugin dropped it without a word to the others.',
    };
    return notes[state]?.() ?? this.#notes.get(key);
  }

  #note(key, text) {
    if (text) this.#notes.set(key, text);
    else this.#notes.delete(key);
    this.#draw(this.#room.snapshot());
  }

  // What is done.

  #click(button) {
    const view = [...this.#views.values()].find(({ element }) => button && element.contains(button));
    if (!view) return;
    const { item } = view;
    const acts = {
      more: () => view.open(),
      react: () => this.#react(item, button.dataset.reaction),
      reply: () => this.#aimAt({ item, verb: 'Reply to' }),
      edit: () => this.#aimAt({ item, verb: 'Edit', text: textOf(item.body) }),
      delete: () => this.#attempt(item, this.#room.delete(item.id)),
      quote: () => this.#viewOf(item.reply_to)?.element.scrollIntoView({ block: 'center' }),
      retry: () => this.#room.retry(item.key),
      dismiss: () => (item.state === 'stored' ? this.#note(item.key, undefined) : this.#room.dismiss(item.key)),
    };
    for (const other of this.#views.values()) if (other !== view || button.dataset.act !== 'more') other.open(false);
    acts[button.dataset.act]();
  }

  #viewOf(id) {
    return [...this.#views.values()].find(({ item }) => item.id === id);
  }

  #react(item, reaction) {
    const isOwn = item.reactions.some((other) => other.reaction === reaction && other.own);
    return this.#attempt(item, this.#room.react(item.id, reaction, { remove: isOwn }));
  }

  /** What goes wrong is said beside the message. Resolves to whether all is well. */
  async #attempt({ key }, asked) {
    try {
      const reply = await asked;
      if (reply.status === 'held') this.#note(key, 'The edit is held until it is released. See below.');
      else if (reply.status === 'discarded') this.#note(key, 'A plugin dropped the edit.');
      else if (reply.body) this.#note(key, 'A plugin changed this before it was stored.');
      else this.#note(key, undefined);
      if (reply.status === 'held') this.#onHeld();
      return true;
    } catch (error) {
      const { plugin } = error.reply ?? {};
      this.#note(key, `${plugin ? `Refused by ${plugin}` : 'Not done'}: ${error.message}`);
      return false;
    }
  }

  /** The form is about this message, or about none. */
  #aimAt(aim) {
    const wasEdit = this.#aim?.text !== undefined;
    this.#aim = aim;
    const find = (selector) => this.element.querySelector(selector);
    find('.aim').hidden = !aim;
    find('.aim span').textContent = aim ? `${aim.verb} ${this.#nameOf(aim.item)}: ${textOf(aim.item.body)}` : '';
    find('[type=submit]').textContent = aim?.text === undefined ? 'Send' : 'Save';
    if (aim?.text !== undefined || wasEdit) this.#input.value = aim?.text ?? '';
    if (aim) this.#input.focus();
  }

  #submit(text) {
    const { item, text: old } = this.#aim ?? {};
    this.#aimAt(undefined);
    this.#input.value = '';
    if (old === undefined) this.say(text, item && { replyTo: item.id });
    else this.#edit(item, text);
  }

  /** A text that is refused comes back into the form, unless something else is written there by then. */
  async #edit(item, text) {
    const isDone = await this.#attempt(item, this.#room.edit(item.id, { text }));
    if (!isDone && !this.#aim && !this.#input.value) this.#aimAt({ item, verb: 'Edit', text });
  }

  /** A message is a draft until the gateway has answered: a plugin may change it, hold it or refuse it. */
  async say(text, options) {
    const sending = this.#room.send({ text }, options);
    this.#isAtEnd = true;
    this.#keepEnd();
    const reply = await sending;
    const { key } = this.#viewOf(reply?.message_id)?.item ?? {};
    if (key && reply.body) this.#note(key, 'A plugin changed this before it was stored.');
  }
}
