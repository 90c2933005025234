// The list of jobs: by id, state and service, newest first, paged by the server's cursor.

import { wordsOf } from "./api.js";
import { h, keyed, setAttribute, setText } from "./dom.js";
import { ENDED, STATES, exact, plural, relative, serverNow, wholeId } from "./format.js";

const LIMIT = 50;
const EMPTY_PAGES_MAX = 8; // a rare state among many jobs: the server looks at so many per question and no more

/** The address of a list within this page. */
export function jobsHash(parameters) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value));
  return `#/jobs${query.size ? `?${query}` : ""}`;
}

export function shortId(id) {
  return `${id.slice(0, 8)}…${id.slice(-4)}`;
}

export function badge(state) {
  return h("span", { class: `badge ${STATES.includes(state) ? state : ""}` }, state);
}

function cell(label, kind, ...children) {
  return h("td", { role: "cell", "data-label": label, class: kind }, ...children);
}

function jobRow(first) {
  const state = h("span", {});
  const created = h("time", { datetime: first.created_at, title: exact(first.created_at) });
  const attempts = h("span", {});
  const note = h("span", { class: "clip" });
  const link = h(
    "a",
    { class: "id", href: `#/jobs/${first.id}`, "data-row": true },
    h("span", { class: "id-head" }, first.id.slice(0, 24)),
    first.id.slice(24),
  );
  const node = h(
    "tr",
    { role: "row" },
    h("th", { role: "rowheader", scope: "row" }, link),
    cell("State", "state", state),
    cell(
      "Service",
      "service",
      h("a", { class: "plain", href: jobsHash({ service: first.service }) }, first.service),
    ),
    cell("Submitted", "when", created),
    cell("Attempts", "number", attempts),
    cell("Note", "note-cell", note),
  );
  node.update = (job) => {
    setText(state, job.state);
    setAttribute(state, "class", `badge ${job.state}`);
    setText(created, relative(job.created_at));
    setText(attempts, job.attempts);
    const late = job.due_at && Date.parse(job.due_at) <= serverNow();
    const due = job.state === "scheduled" && job.due_at ? `due ${late ? "now" : relative(job.due_at)}` : "";
    const priority = job.priority !== "normal" ? `${job.priority} priority` : "";
    const words = [job.last_error, due, priority].filter(Boolean).join(" · ");
    setText(note, words);
    setAttribute(note, "title", words.length > 40 ? words : null);
    node.classList.toggle("quiet", ENDED.has(job.state) && job.state !== "failed");
  };
  return node;
}

/** The filter bar; change({service, state}) is called when something was chosen, find(text) while typing an id. */
function filters(ctx, chosen, change, find) {
  const search = h("input", {
    ...{
      type: "search",
      id: "job-search",
      placeholder: "Job id",
      "data-shortcut": "/",
      autocomplete: "off",
      spellcheck: "false",
    },
    ...{
      autocapitalize: "off",
      "aria-describedby": "search-note",
      maxlength: "64",
      input: () => find(search.value),
    },
  });
  const names = h("datalist", { id: "service-names" });
  const service = h("input", {
    ...{
      id: "job-service",
      list: "service-names",
      placeholder: "Any",
      autocomplete: "off",
      spellcheck: "false",
      maxlength: "255",
    },
    ...{ autocapitalize: "off", change: () => change({ ...chosen, service: service.value.trim() }) },
  });
  service.value = chosen.service;
  const radios = ["", ...STATES].map((state) => {
    const input = h("input", {
      ...{ type: "radio", name: "state", value: state, id: `state-${state || "any"}` },
      change: () => change({ ...chosen, state }),
    });
    input.checked = state === chosen.state;
    return [input, h("label", { for: input.id }, state || "any")];
  });
  const submit = (event) => {
    event.preventDefault();
    find(search.value, true);
    if (!search.value && service.value.trim() !== chosen.service)
      change({ ...chosen, service: service.value.trim() });
  };
  const node = h(
    "form",
    { class: "filters", role: "search", "aria-label": "Jobs", submit },
    h("div", { class: "field grow" }, h("label", { for: "job-search" }, "Find"), search),
    h("div", { class: "field" }, h("label", { for: "job-service" }, "Service"), service, names),
    h("fieldset", { class: "chips" }, h("legend", {}, "State"), radios),
    h("button", { type: "submit", class: "unseen" }, "Find"),
  );
  node.offer = () => {
    const offered = (ctx.model.services ?? []).slice(0, 200);
    keyed(
      names,
      offered,
      (row) => row.name,
      (row) => Object.assign(h("option", { value: row.name }), { update() {} }),
    );
  };
  node.search = search;
  return node;
}

async function page(api, chosen, signal) {
  let { cursor } = chosen;
  for (let looked = 0; ; looked += 1) {
    const query = new URLSearchParams({ limit: LIMIT });
    for (const [name, value] of Object.entries({ service: chosen.service, state: chosen.state, cursor })) {
      if (value) query.set(name, value);
    }
    const found = await api.json(`/v1/jobs?${query}`, { signal });
    if (found.jobs.length || !found.next || looked >= EMPTY_PAGES_MAX) return found;
    cursor = found.next;
  }
}

const HEADS = ["Job", "State", "Service", "Submitted", "Attempts", "Note"];

function tableOf(body) {
  const numbers = { Attempts: "number" };
  const heads = HEADS.map((words) =>
    h("th", { role: "columnheader", scope: "col", class: numbers[words] }, words),
  );
  const head = h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads));
  return h("table", { role: "table", class: "cards jobs", "aria-label": "Jobs" }, head, body);
}

/** What a part of an id found on the page; `entered`: the person is done with typing. */
function searchWords(wanted, found, entered) {
  if (!wanted) return "";
  if (entered && !found)
    return "No job on this page has this in its id; a whole id (32 digits) finds any job.";
  return `${plural(found, "job")} on this page ${found === 1 ? "has" : "have"} this in the id. A whole id finds any job.`;
}

/** What an empty list says. */
function emptyWords(found, wanted, chosen) {
  if (!found) return "Asking the server…";
  if (wanted) return "No job on this page has this in its id.";
  if (found.next) return "None among the jobs looked at so far. Older ones may be there.";
  const filtered = chosen.service || chosen.state ? " that fits" : "";
  return chosen.cursor ? `No older job${filtered}.` : `There is no job${filtered}.`;
}

/** Mount the view; `parameters` are those of its address. */
export function mount(root, ctx, parameters) {
  const { model } = ctx;
  const chosen = {
    service: parameters.get("service") ?? "",
    state: parameters.get("state") ?? "",
    cursor: parameters.get("cursor") ?? "",
  };
  if (!STATES.includes(chosen.state)) chosen.state = "";
  let found = null;
  let wanted = "";
  const heading = h("h1", { tabindex: "-1" }, "Jobs");
  const body = h("tbody", { role: "rowgroup" });
  const table = tableOf(body);
  const note = h("p", { class: "empty" });
  const searchNote = h("p", { class: "note", id: "search-note", "aria-live": "polite" });
  const newest = h(
    "a",
    { class: "button", "data-shortcut": "p", href: jobsHash({ ...chosen, cursor: "" }) },
    "Newest",
  );
  const older = h("a", { class: "button", "data-shortcut": "n" }, "Older");
  const pager = h("nav", { class: "pager", "aria-label": "Pages of jobs" }, newest, older);
  const find = (text, entered = false) => {
    const id = wholeId(text);
    if (id) {
      location.hash = `#/jobs/${id}`;
      return;
    }
    wanted = text.trim().replaceAll("-", "").toLowerCase();
    setText(searchNote, searchWords(wanted, matching().length, entered));
    draw();
  };
  const bar = filters(
    ctx,
    chosen,
    (next) => (location.hash = jobsHash({ service: next.service, state: next.state })),
    find,
  );
  const matching = () => (found?.jobs ?? []).filter((job) => job.id.includes(wanted));
  const draw = (error = "") => {
    const rows = matching();
    keyed(body, rows, (job) => job.id, jobRow);
    table.hidden = !rows.length;
    setText(note, error || (rows.length ? "" : emptyWords(found, wanted, chosen)));
    note.hidden = !note.textContent;
    newest.hidden = !chosen.cursor;
    older.hidden = !found?.next;
    if (found?.next) older.href = jobsHash({ ...chosen, cursor: found.next });
  };
  const stop = new AbortController();
  const ask = async () => {
    try {
      found = await page(ctx.api, chosen, stop.signal);
    } catch (error) {
      if (!stop.signal.aborted) draw(wordsOf(error));
      throw error;
    }
    draw();
  };
  root.append(
    h("div", { class: "view-head" }, heading),
    bar,
    searchNote,
    h("section", { class: "panel", "aria-label": "Jobs found" }, table, note, pager),
  );
  bar.offer();
  draw();
  const poller = model.poll(ask, { everyMs: () => (model.isLive ? 10_000 : 3_000), gapMs: 1_000 });
  const concerns = ({ detail }) => {
    if (!chosen.cursor && (!chosen.service || detail.service === chosen.service)) poller.nudge();
  };
  model.addEventListener("event", concerns, { signal: stop.signal });
  model.addEventListener("services", () => bar.offer(), { signal: stop.signal });
  const ages = setInterval(() => draw(), 5_000);
  return {
    title: ["Jobs", chosen.state, chosen.service].filter(Boolean).join(" · "),
    heading,
    refresh: () => poller.now(),
    end() {
      stop.abort();
      clearInterval(ages);
      model.unpoll(poller);
    },
  };
}
