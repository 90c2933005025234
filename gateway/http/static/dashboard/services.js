// The first view: totals, services, what is happening, and below them the ring and the nodes.

import { wordsOf } from "./api.js";
import { sparkline } from "./charts.js";
import { confirm } from "./dialogs.js";
import { h, keyed, panel, setAttribute, setText } from "./dom.js";
import { age, clock, count, plural, rate, serverNow } from "./format.js";
import { jobsHash, shortId } from "./jobs.js";
import { nodesPanel } from "./nodes.js";
import { storePanel } from "./ring.js";

const SHOWN_STEP = 100;
const FEED_MAX = 8;
const FEED_GAP_MS = 800; // a calm page: many events move it once

function total(rows, name) {
  return rows.reduce((sum, row) => sum + row[name], 0);
}

/** The five numbers at the top; each is a link to the jobs it counts. */
function totals() {
  const tile = (label, hash, kind) => {
    const number = h("span", { class: "tile-number" }, "—");
    const inside = [number, h("span", { class: "tile-label" }, label)];
    const node = hash
      ? h("a", { class: `tile ${kind}`, href: hash }, inside)
      : h("div", { class: `tile ${kind}` }, inside);
    node.show = (value) => {
      setText(number, count(value));
      node.classList.toggle("zero", value === 0);
    };
    return node;
  };
  const tiles = {
    workers: tile("workers", null, "workers"),
    queued: tile("queued", jobsHash({ state: "queued" }), "queued"),
    running: tile("running", jobsHash({ state: "running" }), "running"),
    failed: tile("failed", jobsHash({ state: "failed" }), "failed"),
    succeeded: tile("succeeded, not closed", jobsHash({ state: "succeeded" }), "succeeded"),
  };
  const node = h("div", { class: "tiles" }, Object.values(tiles));
  node.update = (rows) => Object.entries(tiles).forEach(([name, shown]) => shown.show(total(rows, name)));
  return node;
}

function cell(label, kind, ...children) {
  return h("td", { role: "cell", "data-label": label, class: kind }, ...children);
}

function serviceRow(ctx, first) {
  const name = first.name;
  const paused = h("span", { class: "badge paused" }, "paused");
  const workers = h("span", { class: "figure" });
  const idle = h("span", { class: "under" });
  const queued = h("span", { class: "figure" });
  const oldest = h("span", { class: "under" });
  const running = h("a", { class: "figure plain", href: jobsHash({ service: name, state: "running" }) });
  const failed = h("a", { class: "figure plain", href: jobsHash({ service: name, state: "failed" }) });
  const pace = h("span", { class: "figure" });
  const failing = h("span", { class: "under" });
  const depthLine = sparkline(`Queue of ${name}, up to five minutes`, [
    { of: (sample) => sample.queued, name: "depth", filled: true },
  ]);
  const paceLine = sparkline(`Pace of ${name}, up to five minutes`, [
    { of: (sample) => sample.done, name: "done", filled: true },
    { of: (sample) => sample.failed, name: "bad", filled: false },
  ]);
  const button = h("button", {
    type: "button",
    class: "button small",
    click: () => toggle(ctx, name, node.paused),
  });
  const node = h(
    "tr",
    { role: "row" },
    h(
      "th",
      { role: "rowheader", scope: "row" },
      h("a", { href: jobsHash({ service: name }), "data-row": true, class: "service-name" }, name),
      paused,
    ),
    cell("Workers", "number short", workers, idle),
    cell("Queued", "number spark-cell", depthLine, h("span", { class: "stack" }, queued, oldest)),
    cell("Running", "number short", running),
    cell("Failed", "number short", failed),
    cell("Done per minute", "number spark-cell", paceLine, h("span", { class: "stack" }, pace, failing)),
    cell("", "actions", button),
  );
  node.update = (row) => {
    node.paused = row.paused;
    paused.hidden = !row.paused;
    setText(workers, count(row.workers));
    setText(idle, row.workers ? `${count(row.workers_idle)} idle` : "none there");
    node.classList.toggle("unserved", row.workers === 0 && row.queued > 0);
    setText(queued, count(row.queued + row.scheduled));
    const wait = row.oldest_queued_at ? `oldest ${age(serverNow() - Date.parse(row.oldest_queued_at))}` : "";
    setText(oldest, [wait, row.scheduled ? `${count(row.scheduled)} later` : ""].filter(Boolean).join(", "));
    setText(running, count(row.running));
    setText(failed, count(row.failed));
    for (const [node, value] of [
      [running, row.running],
      [failed, row.failed],
    ])
      node.classList.toggle("zero", value === 0);
    failed.classList.toggle("bad", row.failed > 0);
    setText(pace, rate(row.succeeded_per_minute));
    setText(failing, row.failed_per_minute > 0 ? `${rate(row.failed_per_minute)} fail` : "");
    setText(button, row.paused ? "Resume" : "Pause");
    setAttribute(button, "aria-label", `${row.paused ? "Resume" : "Pause"} ${name}`);
    const samples = ctx.model.samples.get(name) ?? [];
    depthLine.draw(samples, `${row.queued} now`);
    paceLine.draw(samples, `${rate(row.succeeded_per_minute)} per minute now`);
  };
  return node;
}

async function toggle(ctx, name, paused) {
  const verb = paused ? "resume" : "pause";
  const question = {
    title: "Pause this service?",
    body: `“${name}” goes on taking jobs and starts none until it is resumed. Jobs that run now run on.`,
    yes: "Pause it",
    no: "Leave it running",
  };
  if (!paused && !(await confirm(question))) return;
  try {
    await ctx.api.json(`/v1/services/${encodeURIComponent(name)}:${verb}`, { method: "POST" });
    ctx.say(`${name} is ${paused ? "resumed" : "paused"}.`);
  } catch (error) {
    ctx.say(`${name} is not ${paused ? "resumed" : "paused"}. ${wordsOf(error)}`, true);
  }
  ctx.model.servicesPoller?.now();
}

const HEADS = ["Service", "Workers", "Queued", "Running", "Failed", "Done per minute", ""];

function servicesTable(ctx) {
  const body = h("tbody", { role: "rowgroup" });
  const search = h("input", {
    ...{
      type: "search",
      id: "service-search",
      placeholder: "Find a service",
      "data-shortcut": "/",
      autocomplete: "off",
    },
    ...{ "aria-label": "Find a service", spellcheck: "false", input: () => update() },
  });
  const more = h(
    "button",
    { type: "button", class: "button", click: () => update((shown += SHOWN_STEP)) },
    "Show more",
  );
  const note = h("p", { class: "empty" });
  const heads = HEADS.map((words, at) =>
    h(
      "th",
      { role: "columnheader", scope: "col", class: at ? "number" : null },
      words || h("span", { class: "unseen" }, "Actions"),
    ),
  );
  const table = h(
    "table",
    { role: "table", class: "cards services", "aria-labelledby": "services-title" },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)),
    body,
  );
  let shown = SHOWN_STEP;
  const node = h(
    "section",
    { class: "panel", "aria-labelledby": "services-title" },
    h("div", { class: "panel-head" }, h("h2", { id: "services-title" }, "Services"), search),
    table,
    note,
    more,
  );
  const empty = (services, found) => {
    if (ctx.model.servicesError && !services) return ctx.model.servicesError;
    if (!services) return "Asking the server…";
    if (!services.length)
      return "No service yet. One comes into being with its first worker or its first job.";
    if (!found.length) return "No service has a name like this.";
    return ctx.model.servicesTruncated ? "There are more services than the server lists here." : "";
  };
  const update = (node.update = () => {
    const { services } = ctx.model;
    const wanted = search.value.trim().toLowerCase();
    const found = (services ?? []).filter((row) => row.name.toLowerCase().includes(wanted));
    keyed(
      body,
      found.slice(0, shown),
      (row) => row.name,
      (row) => serviceRow(ctx, row),
    );
    more.hidden = found.length <= shown;
    search.hidden = (services ?? []).length < 6;
    table.hidden = !found.length;
    setText(note, empty(services, found));
    note.hidden = !note.textContent;
  });
  return node;
}

const WORDS = {
  ...{
    accepted: "accepted",
    started: "started",
    retrying: "attempt failed",
    progress: "progress",
    succeeded: "succeeded",
  },
  ...{ failed: "failed", cancelled: "cancelled", retried: "retried by hand", closed: "closed" },
  ...{ callback: "callback", paused: "service paused", resumed: "service resumed" },
};

function eventRow(event) {
  const what = h("span", { class: `dot ${event.kind}` });
  const job = event.job
    ? h("a", { class: "id", href: `#/jobs/${event.job}`, title: event.job }, shortId(event.job))
    : h("span", {}, "");
  const node = h(
    "li",
    { class: "event" },
    h("time", { datetime: event.at }, clock(event.at)),
    what,
    h("span", { class: "event-kind" }, WORDS[event.kind] ?? event.kind),
    h("span", { class: "event-service" }, event.service),
    job,
  );
  node.update = () => {};
  return node;
}

function feed(ctx) {
  const list = h("ol", { class: "feed" });
  const note = h("p", { class: "empty" });
  const node = panel("feed-title", "Happening now", list, note);
  node.update = () => {
    const { recent, stream } = ctx.model;
    keyed(list, recent.slice(0, FEED_MAX), (event) => `${event.id} ${event.kind}`, eventRow);
    const words = {
      open: recent.length ? "" : "Nothing has happened since this page was opened.",
      busy: "So much happens that events are left out for a while; the numbers above stay current.",
    };
    const heard = ctx.model.reachable && !ctx.api.locked;
    const without = heard
      ? "Events do not come in at the moment; the numbers are asked for instead."
      : "Nothing is heard from the server.";
    setText(note, heard ? (words[stream.state] ?? without) : without);
    note.hidden = !note.textContent;
  };
  return node;
}

/** Mount the view; returns what ends it. */
export function mount(root, ctx) {
  const { model } = ctx;
  const parts = { totals: totals(), table: servicesTable(ctx) };
  const events = model.has("/v1/events") ? feed(ctx) : null;
  const store = model.has("/v1/store") ? storePanel(ctx) : null;
  const nodes = model.has("/v1/nodes") ? nodesPanel(ctx) : null;
  const heading = h("h1", { class: "unseen", tabindex: "-1" }, "Services");
  const side = [events, nodes].filter(Boolean);
  root.append(
    heading,
    parts.totals,
    parts.table,
    h("div", { class: "columns" }, side),
    ...(store ? [store] : []),
  );
  let due = 0;
  const drawEvents = () => {
    due ||= setTimeout(() => {
      due = 0;
      events?.update();
    }, FEED_GAP_MS);
  };
  const update = () => {
    if (model.services) parts.totals.update(model.services);
    parts.table.update();
  };
  const stop = new AbortController();
  model.addEventListener("services", update, { signal: stop.signal });
  for (const type of ["event", "connection", "gap"])
    model.addEventListener(type, drawEvents, { signal: stop.signal });
  update();
  events?.update();
  return {
    title: model.services ? plural(model.services.length, "service") : "Services",
    heading,
    refresh: () => model.resume(),
    end() {
      stop.abort();
      clearTimeout(due);
      store?.end();
      nodes?.end();
    },
  };
}
