// What all views share: which parts the server has, services and their recent past, events, and the connection.

import { Problem, Unreachable, wordsOf } from "./api.js";
import { Poller, Stream } from "./live.js";
import { setClock } from "./format.js";

export const WINDOW_MS = 300_000; // what a sparkline shows
const SAMPLE_GAP_MS = 1_900;
const SERVICES_SAMPLED_MAX = 1_000;
const RECENT_MAX = 60;
const LIVES_MAX = 500;
const LIFE_EVENTS_MAX = 200;
const HIDDEN_GRACE_MS = 5_000;

export class Model extends EventTarget {
  /** Dispatches services, health, connection, event and gap. */
  constructor(api) {
    super();
    this.api = api;
    this.paths = new Set();
    this.services = null; // null: not known yet
    this.servicesTruncated = false;
    this.servicesError = "";
    this.samples = new Map();
    this.health = null; // {ready, reason, ...} of /readyz
    this.reachable = true;
    this.recent = []; // newest first
    this.lives = new Map();
    this.stream = new Stream(api);
    this.pollers = [];
  }

  has(path) {
    return this.paths.has(path);
  }

  /** Learn what the server offers, then follow it. Throws if it cannot be asked. */
  async start() {
    const document = await this.api.json("/openapi.json");
    this.paths = new Set(Object.keys(document.paths ?? {}));
    this.version = document.info?.version ?? "";
    this.stream.addEventListener("state", () => {
      if (this.stream.state === "waiting") this.healthPoller.nudge(); // is only the stream gone, or the server?
      this.#tell("connection");
    });
    addEventListener("online", () => this.resume());
    this.stream.addEventListener("event", ({ detail }) => this.#record(detail));
    this.stream.addEventListener("gap", () => this.#missed());
    this.healthPoller = this.poll(() => this.#askHealth(), {
      everyMs: () => (this.reachable ? 10_000 : 3_000),
    });
    if (this.has("/v1/services")) {
      this.servicesPoller = this.poll(() => this.#askServices(), {
        everyMs: () => (this.isLive ? 5_000 : 2_000),
      });
    }
    if (this.has("/v1/events")) this.stream.start();
    this.api.addEventListener("unlocked", () => this.resume());
    this.api.addEventListener("locked", () => this.#tell("connection"));
    let timer = 0;
    globalThis.document.addEventListener("visibilitychange", () => {
      clearTimeout(timer);
      if (globalThis.document.hidden) timer = setTimeout(() => this.stream.stop(), HIDDEN_GRACE_MS);
      else this.resume();
    });
  }

  get isLive() {
    return this.stream.state === "open";
  }

  /** Ask everything again, now. */
  resume() {
    if (this.has("/v1/events")) this.stream.start();
    for (const poller of this.pollers) poller.now();
    this.#tell("connection");
  }

  /** A poller that resume() knows, until it is stopped. */
  poll(call, options) {
    const poller = new Poller(this.api, call, options);
    this.pollers.push(poller);
    return poller;
  }

  unpoll(poller) {
    poller.stop();
    this.pollers = this.pollers.filter((other) => other !== poller);
  }

  /** The events known of a job, oldest first. */
  life(id) {
    return this.lives.get(id) ?? [];
  }

  /** Remember an event of a job, whichever way it came; each once. */
  remember(event) {
    if (!event.job) return;
    let life = this.lives.get(event.job);
    if (!life) {
      life = [];
      if (this.lives.size >= LIVES_MAX) this.lives.delete(this.lives.keys().next().value);
      this.lives.set(event.job, life);
    }
    if (
      life.length >= LIFE_EVENTS_MAX ||
      life.some((other) => other.id === event.id && other.kind === event.kind)
    )
      return;
    life.push(event);
    life.sort((a, b) => a.id - b.id);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #record(event) {
    this.remember(event);
    this.recent.unshift(event);
    if (this.recent.length > RECENT_MAX) this.recent.length = RECENT_MAX;
    this.servicesPoller?.nudge();
    this.#tell("event", event);
  }

  #missed() {
    this.servicesPoller?.nudge();
    this.#tell("gap");
  }

  #reach(reachable) {
    if (this.reachable === reachable) return;
    this.reachable = reachable;
    if (reachable && this.has("/v1/events")) this.stream.start();
    this.#tell("connection");
  }

  async #askHealth() {
    try {
      const ready = await this.api.json("/readyz");
      this.health = { ready: true, reason: "", ...ready };
    } catch (error) {
      if (error instanceof Unreachable) {
        this.#reach(false);
        throw error;
      }
      if (!(error instanceof Problem)) throw error;
      this.health = { ready: false, reason: wordsOf(error) };
    }
    this.#reach(true);
    this.#tell("health");
  }

  async #askServices() {
    let document;
    try {
      document = await this.api.json("/v1/services");
    } catch (error) {
      if (error instanceof Unreachable) this.#reach(false);
      this.servicesError = wordsOf(error);
      this.#tell("services");
      throw error;
    }
    this.#reach(true);
    this.servicesError = "";
    this.services = document.services;
    this.servicesTruncated = document.truncated === true;
    setClock(document.now);
    for (const row of document.services.slice(0, SERVICES_SAMPLED_MAX)) this.#sample(row);
    this.#tell("services");
  }

  #sample(row) {
    const now = Date.now();
    let series = this.samples.get(row.name);
    if (!series) this.samples.set(row.name, (series = []));
    const sample = {
      at: now,
      done: row.succeeded_per_minute,
      failed: row.failed_per_minute,
      queued: row.queued,
    };
    if (series.length > 1 && now - series.at(-2).at < SAMPLE_GAP_MS) series.pop(); // the newest replaces it
    series.push(sample);
    while (series.length && series[0].at < now - WINDOW_MS - 10_000) series.shift();
  }
}
