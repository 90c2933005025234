// The reply: a bounded look at it as text (or as bytes), and the whole of it as a download.

import { wordsOf } from "./api.js";
import { h, replace, setText } from "./dom.js";
import { bytes } from "./format.js";

const PREVIEW_BYTES = 64 * 1024;
const HEX_BYTES = 512;
const UNASKED_MAX_BYTES = 1024 * 1024; // the server reads the whole reply even if we stop early
const SUFFIXES = {
  "application/json": "json",
  "text/plain": "txt",
  "text/csv": "csv",
  "text/html": "html",
  "image/png": "png",
};

async function head(body) {
  const reader = body.getReader();
  const parts = [];
  let size = 0;
  while (size < PREVIEW_BYTES) {
    const { value, done } = await reader.read();
    if (done) return { data: await new Blob(parts).arrayBuffer(), cut: false };
    parts.push(value);
    size += value.length;
  }
  await reader.cancel();
  return { data: (await new Blob(parts).arrayBuffer()).slice(0, PREVIEW_BYTES), cut: true };
}

/** The text, or null if these bytes are none; a character that was cut off at the end does not count. */
function asText(data) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(data, { stream: true });
    return /[\0-\x08\x0e-\x1a\x1c-\x1f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

function hex(data) {
  const view = new Uint8Array(data.slice(0, HEX_BYTES));
  const lines = [];
  for (let at = 0; at < view.length; at += 16) {
    const row = [...view.slice(at, at + 16)];
    const digits = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const letters = row.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
    lines.push(`${at.toString(16).padStart(4, "0")}  ${digits.padEnd(47)}  ${letters}`);
  }
  return lines.join("\n");
}

/** The panel of the job's reply; update(job), null once it is closed. */
export function replyPanel(ctx, id) {
  const path = `/v1/jobs/${id}/reply`;
  const note = h("p", { class: "note", "aria-live": "polite" });
  const text = h("pre", { class: "reply-text", tabindex: "0", "aria-label": "Reply" });
  const show = h("button", { type: "button", class: "button", click: () => look() }, "Show the beginning");
  const save = h(
    "a",
    { class: "button", href: path, download: `${id}.bin`, click: (event) => download(event) },
    "Download",
  );
  const bar = h("div", { class: "actions-bar" }, show, save);
  const node = h(
    "section",
    { class: "panel", "aria-labelledby": "reply-title" },
    h("div", { class: "panel-head" }, h("h2", { id: "reply-title" }, "Reply"), bar),
    note,
    text,
  );
  const stop = new AbortController();
  let looked = false;
  let name = `${id}.bin`;

  const look = async () => {
    looked = true;
    show.hidden = true;
    try {
      const answer = await ctx.api.request(path, { signal: stop.signal });
      const type = answer.headers.get("content-type") ?? "";
      const { data, cut } = await head(answer.body);
      const written = asText(data);
      setText(text, written ?? hex(data));
      text.classList.toggle("hex", written === null);
      text.hidden = data.byteLength === 0;
      const part = written === null ? Math.min(HEX_BYTES, data.byteLength) : data.byteLength;
      const less = cut || part < data.byteLength ? `; the first ${bytes(part)} are shown` : "";
      const what = data.byteLength ? `${written === null ? "bytes, not text" : "text"}${less}` : "no bytes";
      setText(note, `${type || "no type"} · ${what}`);
      name = `${id}.${SUFFIXES[type.split(";")[0].trim()] ?? "bin"}`;
      save.download = name;
    } catch (error) {
      if (stop.signal.aborted) return;
      looked = false;
      show.hidden = false;
      setText(note, `The reply cannot be shown. ${wordsOf(error)}`);
    }
  };
  // A plain link carries no API key: with one, the bytes are fetched and handed over.
  const download = async (event) => {
    if (!ctx.api.key) return;
    event.preventDefault();
    try {
      const answer = await ctx.api.request(path, { signal: stop.signal, timeoutMs: 0 });
      const url = URL.createObjectURL(await answer.blob());
      h("a", { href: url, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
      if (!stop.signal.aborted) ctx.say(`The reply cannot be downloaded. ${wordsOf(error)}`, true);
    }
  };
  node.update = (job) => {
    const there = job?.state === "succeeded";
    node.hidden = !there;
    if (!there) {
      replace(text);
      looked = false;
      return;
    }
    if (looked) return;
    if (job.reply_bytes !== null && job.reply_bytes <= UNASKED_MAX_BYTES) look();
    else setText(note, `${bytes(job.reply_bytes)}.`);
    text.hidden = text.textContent === "";
  };
  node.end = () => stop.abort();
  return node;
}
