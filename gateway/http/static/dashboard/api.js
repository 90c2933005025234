// Requests to the server this page came from, with the API key if one was typed in.

const KEY_ITEM = "titanic.key";
const TIMEOUT_MS = 15_000;

/** An answer that is an error: the server's problem document (RFC 9457), or what stands for one. */
export class Problem extends Error {
  constructor(status, document, retryAfterMs = 0) {
    super(document.detail || document.title || `The server answered ${status}.`);
    this.status = status;
    this.title = document.title ?? "";
    this.document = document;
    this.retryAfterMs = retryAfterMs;
  }
}

/** No answer at all. */
export class Unreachable extends Error {}

/** Why something failed, in words for the page. */
export function wordsOf(error) {
  if (error instanceof Problem) return error.message;
  if (error instanceof Unreachable) return "The server cannot be reached.";
  return `This page met an error of its own: ${error.message}`;
}

async function problemOf(answer) {
  const type = answer.headers.get("content-type") ?? "";
  const seconds = Number(answer.headers.get("retry-after"));
  let document = { title: answer.statusText };
  if (type.startsWith("application/problem+json")) {
    try {
      document = await answer.json();
    } catch (error) {
      document.detail = `The error document cannot be read: ${error.message}`;
    }
  }
  return new Problem(answer.status, document, seconds > 0 ? seconds * 1000 : 0);
}

export class Api extends EventTarget {
  /** Dispatches "locked" when a request was refused for want of a key, "unlocked" when a key is typed in. */
  constructor() {
    super();
    this.locked = false;
  }

  get key() {
    return sessionStorage.getItem(KEY_ITEM) ?? "";
  }

  set key(value) {
    if (value) sessionStorage.setItem(KEY_ITEM, value);
    else sessionStorage.removeItem(KEY_ITEM);
    this.locked = false;
    this.dispatchEvent(new Event("unlocked"));
  }

  /** The answer if its status is 2xx. Throws Problem or Unreachable; an abort by the caller goes through. */
  async request(path, { method = "GET", headers = {}, signal = null, timeoutMs = TIMEOUT_MS } = {}) {
    const sent = new Headers(headers);
    const key = this.key;
    if (key) sent.set("authorization", `Bearer ${key}`);
    const signals = [signal, timeoutMs ? AbortSignal.timeout(timeoutMs) : null].filter(Boolean);
    let answer;
    try {
      answer = await fetch(path, {
        method,
        headers: sent,
        signal: signals.length ? AbortSignal.any(signals) : null,
        credentials: "omit",
        redirect: "error",
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Unreachable(error.message);
    }
    if (answer.ok) return answer;
    const problem = await problemOf(answer);
    if (answer.status === 401 && key === this.key) this.#lock(problem, Boolean(key));
    throw problem;
  }

  /** The JSON of an answer. */
  async json(path, options) {
    const answer = await this.request(path, options);
    try {
      return await answer.json();
    } catch (error) {
      if (options?.signal?.aborted) throw error;
      throw new Unreachable(error.message);
    }
  }

  #lock(problem, hadKey) {
    if (this.locked) return;
    this.locked = true;
    this.dispatchEvent(new CustomEvent("locked", { detail: { message: problem.message, hadKey } }));
  }
}

/** Why a text cannot be an API key, or "". */
export function keyFault(text) {
  if (!text) return "Type a key, or close this dialog.";
  return /^[\x21-\x7e]+$/.test(text) ? "" : "A key is printable ASCII without blanks: key-id.secret";
}
