// A thin layer over `ws` for the scripts beside this file: open, say, and wait for a frame, always with a bound.
import WebSocket from 'ws';

const PATIENCE_MS = 10_000;

/** Rejects when the promise takes too long, saying what was waited for. */
export function within(promise, what, ms = PATIENCE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms for ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export class Client {
  /** Every frame that came, in order; binary ones as Buffers. */
  frames = [];
  #waiting = [];

  constructor(url, name) {
    this.name = name;
    this.socket = new WebSocket(url, { perMessageDeflate: false });
    this.opened = new Promise((resolve, reject) => {
      this.socket.once('open', resolve);
      this.socket.once('error', reject);
    });
    // One that nobody waits for is no unhandled rejection.
    this.opened.catch(() => {});
    this.closed = new Promise((resolve) => {
      this.socket.once('close', (code, reason) => resolve({ code, reason: reason.toString() }));
    });
    this.socket.on('error', () => {});
    this.socket.on('message', (data, isBinary) => this.#take(isBinary ? data : JSON.parse(data.toString())));
  }

  static async open(url, name) {
    const client = new Client(url, name);
    await within(client.opened, `${name}: open`);
    return client;
  }

  say(frame) {
    this.socket.send(JSON.stringify(frame));
  }

  /** The first frame, already here or still to come, that this holds for. */
  frame(what, holds) {
    const here = this.frames.find(holds);
    if (here) return Promise.resolve(here);
    const coming = new Promise((resolve) => this.#waiting.push({ holds, resolve }));
    const gone = this.closed.then(({ code }) => {
      throw new Error(`${this.name}: closed with ${code} before ${what}`);
    });
    return within(Promise.race([coming, gone]), `${this.name}: ${what}`);
  }

  /** Says this and waits for the reply. */
  ask(frame) {
    const ref = `${frame.op}-${this.frames.length}-${Math.random()}`;
    this.say({ ...frame, ref });
    return this.frame(`the reply to ${frame.op}`, (reply) => reply.ref === ref);
  }

  async end() {
    this.socket.close(1000);
    await within(this.closed, `${this.name}: close`);
  }

  #take(frame) {
    this.frames.push(frame);
    this.#waiting = this.#waiting.filter(({ holds, resolve }) => {
      if (!holds(frame)) return true;
      resolve(frame);
      return false;
    });
  }
}
