// The ring as it lies in the file: slot after slot, clockwise from the top, with what keeps the tail in place.

import { wordsOf } from "./api.js";
import { arc } from "./charts.js";
import { h, replace, setText, svg } from "./dom.js";
import { bytes, count, exact, plural, relative } from "./format.js";
import { shortId } from "./jobs.js";

const PIECES_MAX = 240;
const INNER = 58;
const OUTER = 92;
const GAP_TURNS = 0.002;
const STATES = ["head", "alive", "dead", "free"]; // what a piece of several slots is called: the first that fits
const WORDS = {
  free: "free",
  dead: "no job left in it; free once the tail has passed",
  alive: "holds jobs",
  head: "being written",
};

/** Neighbouring slots in one piece, so that a large file is still a drawing. */
function pieces(chunks, tailTurn) {
  const size = Math.ceil(chunks.length / PIECES_MAX);
  const found = [];
  for (let at = 0; at < chunks.length; at += size) {
    const part = chunks.slice(at, at + size);
    found.push({
      from: at,
      to: at + part.length,
      state: STATES.find((state) => part.some((chunk) => chunk.state === state)) ?? "free",
      tail: part.some((chunk) => chunk.state !== "free" && chunk.turn === tailTurn),
      alive: part.reduce((sum, chunk) => sum + chunk.alive, 0),
      turn: part.length === 1 ? part[0].turn : 0,
    });
  }
  return found;
}

function titleOf({ from, to, state, tail, alive, turn }) {
  const where = to - from === 1 ? `Slot ${from}` : `Slots ${from}–${to - 1}`;
  const role = `${WORDS[state] ?? state}${tail ? ", the tail of the ring" : ""}`;
  return `${where}${turn ? `, turn ${turn}` : ""}: ${role}${alive ? `; ${plural(alive, "record")} still needed` : ""}`;
}

function drawRing({ chunks, facts }) {
  const found = pieces(chunks, facts.tail_turn);
  const most = Math.max(1, ...found.map(({ alive }) => alive));
  const drawn = found.flatMap((piece) => {
    const [from, to] = [piece.from / chunks.length, piece.to / chunks.length];
    const gap = chunks.length > 1 ? Math.min(GAP_TURNS, (to - from) / 4) : 0;
    const base = svg("path", {
      class: `slot ${piece.state}${piece.tail ? " tail" : ""}`,
      d: arc(INNER, OUTER, from + gap, to - gap),
    });
    base.append(svg("title", {}, titleOf(piece)));
    if (!piece.alive) return [base];
    const outer = INNER + 4 + (OUTER - INNER - 8) * Math.sqrt(piece.alive / most);
    return [
      base,
      svg("path", { class: `needed ${piece.state}`, d: arc(INNER, outer, from + gap, to - gap) }),
    ];
  });
  const used = facts.file_bytes - facts.free_bytes;
  const taken = chunks.filter((chunk) => chunk.state !== "free").length;
  const label = `The ring has ${plural(chunks.length, "slot")}, ${count(taken)} of them in use; ${bytes(used)} of ${bytes(facts.file_bytes)} cannot be written now.`;
  return svg(
    "svg",
    { class: "ring", viewBox: "-100 -100 200 200", role: "img", "aria-label": label },
    drawn,
    svg(
      "text",
      { class: "ring-figure", y: 2, "text-anchor": "middle" },
      `${Math.round((100 * used) / facts.file_bytes)} %`,
    ),
    svg("text", { class: "ring-words", y: 19, "text-anchor": "middle" }, `of ${bytes(facts.file_bytes)}`),
  );
}

/** When it will be full, in words. */
function forecastOf(forecast) {
  if (!forecast) return "not known here";
  const { full_at, full_in_s, growth_bytes_per_minute: growth } = forecast;
  if (growth === null) return "not known yet";
  if (full_at === null) return growth < 0 ? `shrinks, ${bytes(-growth)}/min` : "does not grow";
  const when = full_in_s === 0 ? "full now" : `full ${relative(full_at)}`;
  return h("time", { datetime: full_at, title: exact(full_at) }, `${when}, +${bytes(growth)}/min`);
}

function factsOf({ facts, forecast }) {
  return [
    ["At this pace", forecastOf(forecast)],
    ["File", `${bytes(facts.file_bytes)}, ${plural(facts.chunks, "chunk")} of ${bytes(facts.chunk_bytes)}`],
    ["Free before it grows", bytes(facts.free_bytes)],
    ["Entries alive", count(facts.live)],
    ["Sequence", count(facts.last_sequence)],
    ["Durable up to", count(facts.durable_sequence)],
    ["Records per sync", facts.syncs ? (facts.records_appended / facts.syncs).toFixed(1) : "—"],
    ["Turns", `${count(facts.tail_turn)} to ${count(facts.head_turn)}`],
    ["Opened", plural(facts.incarnation, "time")],
  ];
}

/** One line per job: its request, its reply or both lie in the oldest chunk. */
function pinsOf(rows) {
  const parts = new Map();
  for (const { job, part } of rows) parts.set(job, [...(parts.get(job) ?? []), part]);
  return [...parts].map(([job, held]) =>
    h(
      "li",
      {},
      h("a", { class: "id", href: `#/jobs/${job}`, title: job }, shortId(job)),
      h("span", { class: "note" }, `its ${held.join(" and ")}`),
    ),
  );
}

/** The panel; end() stops its questions. */
export function storePanel(ctx) {
  const note = h("p", { class: "empty" }, "Asking the server…");
  const picture = h("div", { class: "ring-box" });
  const facts = h("dl", { class: "facts" });
  const held = h("p", { class: "note" });
  const pins = h("ul", { class: "pins" });
  const legend = h(
    "ul",
    { class: "legend" },
    ["head", "alive", "dead", "free", "tail"].map((kind) =>
      h("li", {}, h("span", { class: `swatch slot-${kind}` }), kind),
    ),
  );
  const holding = h("div", {}, h("h3", { class: "pins-title" }, "What holds the tail"), held, pins);
  const below = h("div", { class: "store-words" }, h("div", {}, facts, legend), holding);
  const title = h("h2", { id: "store-title" }, "Store");
  const node = h(
    "section",
    { class: "panel", "aria-labelledby": "store-title" },
    title,
    note,
    h("div", { class: "store" }, picture, below),
  );
  let told = "";
  const show = (store) => {
    const now = JSON.stringify(store);
    if (now === told) return; // nothing under the pointer or the focus is replaced for nothing
    told = now;
    replace(picture, drawRing(store));
    replace(
      facts,
      factsOf(store).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
    );
    const backup = store.facts.backup_pins_turn ? "A backup that is being read holds the ring. " : "";
    const omitted = store.chunks_omitted
      ? ` ${plural(store.chunks_omitted, "slot")} at the end of the file are not drawn.`
      : "";
    setText(
      held,
      `${backup}${store.pins.length ? "The oldest jobs with bytes in the oldest chunk:" : "No job: it moves as the ring needs room."}${omitted}`,
    );
    replace(pins, pinsOf(store.pins));
  };
  const ask = async () => {
    try {
      const store = await ctx.api.json("/v1/store");
      below.hidden = picture.hidden = false;
      note.hidden = true;
      show(store);
    } catch (error) {
      setText(note, wordsOf(error));
      note.hidden = false;
      throw error;
    }
  };
  below.hidden = picture.hidden = true;
  const poller = ctx.model.poll(ask, { everyMs: () => 5_000 });
  node.end = () => ctx.model.unpoll(poller);
  return node;
}
