// How the page stays current: an event stream where the server has one, and polling that backs off.

import { Problem, Unreachable } from "./api.js";

const SILENCE_MAX_MS = 40_000; // the server sends something every 15 s
const FLOOD_PER_S = 500; // more events than this are followed by polling: drawing them would help nobody
const FLOOD_PAUSE_MS = 20_000;
const BACKOFF_MIN_MS = 1_000;
const BACKOFF_MAX_MS = 30_000;
const BUFFER_MAX_CHARS = 1 << 20;

function backoff(failures) {
  const ms = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** Math.min(failures - 1, 10));
  return ms * (0.75 + Math.random() / 2);
}

/** Server-sent events out of pieces of text (WHATWG HTML, 9.2.6); one line of data is all the server sends. */
export class EventParser {
  #buffer = "";
  #event = {};

  /** The events that are complete with this piece. */
  push(piece) {
    this.#buffer += piece;
    if (this.#buffer.length > BUFFER_MAX_CHARS) throw new Error("an event without end");
    const half = this.#buffer.endsWith("\r") ? "\r" : ""; // its line feed may come with the next piece
    const lines = this.#buffer.slice(0, this.#buffer.length - half.length).split(/\r\n|\n|\r/);
    this.#buffer = lines.pop() + half;
    const found = [];
    for (const line of lines) {
      if (line === "") {
        if ("id" in this.#event || "data" in this.#event) found.push(this.#event);
        this.#event = {};
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) continue;
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (name === "data") this.#event.data = "data" in this.#event ? `${this.#event.data}\n${value}` : value;
      else if (name === "id" || name === "event") this.#event[name] = value;
    }
    return found;
  }
}

/** Reads one stream until it ends; calls seen(event) with {id, event, data}. Throws like Api.request. */
export async function readEvents(api, { service = "", lastId = "", signal, seen, opened = () => {} }) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MAX_MS);
  const all = AbortSignal.any([signal, silence.signal]);
  try {
    const path = service ? `/v1/events?service=${encodeURIComponent(service)}` : "/v1/events";
    const headers = { accept: "text/event-stream", ...(lastId ? { "last-event-id": lastId } : {}) };
    const answer = await api.request(path, { headers, signal: all, timeoutMs: 0 });
    opened();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventParser();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MAX_MS);
      for (const event of parser.push(value)) seen(event);
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Follows /v1/events for ever. `state`: off, connecting, open, busy, waiting. Dispatches state, event, gap. */
export class Stream extends EventTarget {
  #api;
  #abort = null;
  #timer = 0;
  #failures = 0;
  #second = 0;
  #count = 0;
  #resuming = false;

  constructor(api) {
    super();
    this.#api = api;
    this.state = "off";
    this.lastId = "";
  }

  start() {
    if (this.#abort || this.#api.locked) return;
    clearTimeout(this.#timer);
    this.#run();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#abort = null;
    this.#set("off");
  }

  #set(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  async #run() {
    const abort = (this.#abort = new AbortController());
    const opened = () => {
      this.#failures = 0;
      this.#set("open");
    };
    this.#set("connecting");
    this.#resuming = this.lastId !== "";
    let wait = 0;
    try {
      const seen = (event) => abort.signal.aborted || this.#take(event);
      await readEvents(this.#api, { lastId: this.lastId, signal: abort.signal, seen, opened });
    } catch (error) {
      if (error instanceof Problem) wait = error.retryAfterMs;
      if (error instanceof Problem && error.status === 400) this.lastId = ""; // another server stands here now
    }
    if (this.#abort !== abort) return; // stopped meanwhile
    this.#abort = null;
    if (this.#api.locked) return this.#set("off");
    if (this.state === "busy") wait = FLOOD_PAUSE_MS;
    else this.#set("waiting");
    this.#failures += 1;
    this.#timer = setTimeout(() => this.start(), Math.max(wait, backoff(this.#failures)));
  }

  #take(event) {
    if (event.id) this.lastId = event.id;
    if (!event.data) return;
    let data;
    try {
      data = JSON.parse(event.data);
    } catch {
      return; // not an event of this server; the polls still tell the truth
    }
    if (event.event === "gap") {
      if (this.#resuming) this.dispatchEvent(new CustomEvent("gap", { detail: data }));
      return;
    }
    this.dispatchEvent(new CustomEvent("event", { detail: { id: Number(event.id), ...data } }));
    const second = Math.floor(Date.now() / 1000);
    if (second !== this.#second) [this.#second, this.#count] = [second, 0];
    this.#count += 1;
    if (this.#count > FLOOD_PER_S) {
      this.lastId = ""; // what is missed meanwhile is not asked for afterwards
      this.#set("busy");
      this.#abort?.abort();
    }
  }
}

/**
 * Calls an async function again and again: `everyMs()` after a success, with growing pauses after failures, at
 * once (but never more often than `gapMs`) after nudge(). A slow answer makes the next question come later.
 */
export class Poller {
  #timer = 0;
  #due = 0;
  #running = false;
  #again = false;
  #stopped = false;
  #failures = 0;
  #endedAt = 0;
  #tookMs = 0;

  constructor(api, call, { everyMs, gapMs = 1_000 }) {
    this.api = api;
    this.call = call;
    this.everyMs = everyMs;
    this.gapMs = gapMs;
    this.#schedule(0);
  }

  /** Something has changed. */
  nudge() {
    if (this.#running) this.#again = true;
    else if (!this.#failures) this.#schedule(this.#rest());
  }

  /** Ask now, failures or not. */
  now() {
    this.#failures = 0;
    if (this.#running) this.#again = true;
    else this.#schedule(0, true);
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #rest() {
    const gap = Math.max(this.gapMs, 10 * this.#tookMs);
    return Math.max(0, this.#endedAt + gap - Date.now());
  }

  #schedule(ms, force = false) {
    if (this.#stopped) return;
    const due = Date.now() + ms;
    if (!force && this.#due && this.#due <= due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => this.#run(), ms);
  }

  async #run() {
    this.#due = 0;
    if (this.#stopped) return;
    if (document.hidden || this.api.locked) return this.#schedule(1_000);
    this.#running = true;
    this.#again = false;
    const started = Date.now();
    let pause;
    try {
      await this.call();
      this.#failures = 0;
      this.#tookMs = Math.min(3_000, Date.now() - started);
      this.#endedAt = Date.now();
      pause = this.#again ? this.#rest() : Math.max(this.everyMs(), this.#rest());
    } catch (error) {
      if (this.#stopped) return; // its view has ended, and with it the request
      this.#failures += 1;
      this.#endedAt = Date.now();
      pause = Math.max(error.retryAfterMs ?? 0, backoff(this.#failures + 1));
      if (!(error instanceof Problem || error instanceof Unreachable)) console.error(error);
    }
    this.#running = false;
    this.#schedule(pause);
  }
}
