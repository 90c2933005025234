// One job: where it stands, its life, its reply, and what can be done about it.

import { Problem, wordsOf } from "./api.js";
import { confirm } from "./dialogs.js";
import { h, panel, replace, setAttribute, setText } from "./dom.js";
import { ENDED, bytes, exact, plural, relative, serverNow } from "./format.js";
import { jobsHash } from "./jobs.js";
import { lifeOf } from "./life.js";
import { readEvents } from "./live.js";
import { replyPanel } from "./reply.js";
import { timeline } from "./timeline.js";

const HISTORY_MS = 4_000;

const ACTIONS = {
  cancel: {
    ...{ method: "POST", suffix: ":cancel", done: "The job is cancelled.", key: "c", label: "Cancel" },
    ...{
      title: "Cancel this job?",
      body: "It will not run, or not again. A worker that is at it is told, and its reply is thrown away.",
    },
    ...{ yes: "Cancel the job", no: "Let it run", danger: true },
    fits: (job) => !ENDED.has(job.state),
  },
  retry: {
    ...{ method: "POST", suffix: ":retry", done: "The job is queued again.", key: "t", label: "Retry" },
    ...{ title: "Retry this job?", body: "It goes back into its queue, and its attempts begin again." },
    ...{ yes: "Retry the job", no: "Leave it" },
    fits: (job) => job.state === "failed",
  },
  close: {
    ...{ method: "DELETE", suffix: "", done: "The job is closed.", key: "x", label: "Close" },
    ...{ title: "Close this job?", body: "Its request and its reply are deleted for good." },
    ...{ yes: "Close the job", no: "Keep it", danger: true },
    fits: () => true,
  },
};

/** Events of this job that the server still keeps: one look back through its service's, short and bounded. */
async function lookBack(ctx, job, signal) {
  const enough = new AbortController();
  const timer = setTimeout(() => enough.abort(), HISTORY_MS);
  const until = Number(ctx.model.stream.lastId) || Infinity;
  const seen = ({ id, data }) => {
    if (data?.includes(job.id)) ctx.model.remember({ id: Number(id), ...JSON.parse(data) });
    if (Number(id) >= until || data === undefined) enough.abort();
  };
  try {
    await readEvents(ctx.api, {
      service: job.service,
      lastId: "0",
      signal: AbortSignal.any([signal, enough.signal]),
      seen,
    });
  } catch (error) {
    if (!enough.signal.aborted && !signal.aborted) throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** Where it goes and how far it is, as text: an address that a client gave is no link here. */
function callbackOf({ url, state, attempts, last_error, next_attempt_at }) {
  const tries = attempts ? `, ${plural(attempts, "attempt")}` : "";
  const why = last_error ? `: ${last_error}` : "";
  const next = state === "pending" && next_attempt_at ? `, next ${relative(next_attempt_at)}` : "";
  return `${state.replace("_", " ")}${tries}${why}${next} \u2013 ${url}`;
}

function factsOf(job) {
  const time = (text) =>
    h("time", { datetime: text, title: exact(text) }, `${exact(text)} (${relative(text)})`);
  const most = job.attempts_max === 0 ? "no limit" : `of ${job.attempts_max}`;
  return [
    ["Service", h("a", { href: jobsHash({ service: job.service }) }, job.service)],
    ["Submitted", time(job.created_at)],
    ["Attempts", job.attempts_max === null ? String(job.attempts) : `${job.attempts} ${most}`],
    ["Priority", job.priority],
    ["Request", `${bytes(job.request_bytes)}${job.content_type ? `, ${job.content_type}` : ""}`],
    [
      "Ahead of it",
      !ENDED.has(job.state) && job.queued_before !== null ? plural(job.queued_before, "job") : null,
    ],
    ["Due", job.due_at && !ENDED.has(job.state) ? time(job.due_at) : null],
    ["Expires", job.expires_at && !ENDED.has(job.state) ? time(job.expires_at) : null],
    ["Ended", job.ended_at ? time(job.ended_at) : null],
    ["Kept until", job.kept_until ? time(job.kept_until) : null],
    ["Owner", job.owner],
    ["Callback", job.callback ? callbackOf(job.callback) : null],
  ].filter(([, value]) => value !== null && value !== undefined);
}

function idLine(ctx, id) {
  const copy = async () => {
    await navigator.clipboard.writeText(id);
    ctx.say("The id is copied.");
  };
  const button = h(
    "button",
    { type: "button", class: "button small", click: copy, "aria-label": "Copy the id" },
    "Copy",
  );
  return h("p", { class: "job-id" }, h("code", {}, id), navigator.clipboard ? button : null);
}

function actions(ctx, id, changed) {
  const buttons = Object.entries(ACTIONS).map(([name, action]) => {
    const act = async () => {
      if (!(await confirm(action))) return;
      try {
        await ctx.api.request(`/v1/jobs/${id}${action.suffix}`, { method: action.method });
        ctx.say(action.done);
      } catch (error) {
        ctx.say(`Not done. ${wordsOf(error)}`, true);
      }
      changed();
    };
    const button = h(
      "button",
      { type: "button", class: "button", "data-shortcut": action.key, "data-action": name, click: act },
      action.label,
    );
    button.fits = action.fits;
    button.hidden = true;
    return button;
  });
  const node = h("div", { class: "actions-bar" }, buttons);
  node.update = (job) => {
    const { activeElement } = document;
    for (const button of buttons) button.hidden = !job || !button.fits(job);
    if (activeElement?.hidden) (buttons.find((button) => !button.hidden) ?? node.fallback)?.focus();
  };
  return node;
}

function gone(error) {
  if (!(error instanceof Problem)) return null;
  if (error.status === 410) return "This job is closed: its request and its reply are deleted.";
  if (error.status === 404)
    return "No job has this id. It was never issued by this server, or belongs to another key.";
  return null;
}

/** The nodes of the view, in place, all of them hidden or empty. */
function skeleton(root, ctx, id, changed) {
  const parts = {
    heading: h("h1", { tabindex: "-1" }, "Job"),
    state: h("span", { class: "badge" }),
    trouble: h("p", { class: "banner", role: "status" }),
    progress: h("p", { class: "progress" }),
    mistake: h("pre", { class: "mistake" }),
    facts: h("dl", { class: "facts wide" }),
    drawing: timeline(),
    lifeNote: h("p", { class: "note" }),
    reply: replyPanel(ctx, id),
    bar: actions(ctx, id, changed),
  };
  parts.bar.fallback = parts.heading;
  parts.lifePanel = panel("life-title", "Its life", parts.drawing, parts.lifeNote);
  parts.mistakePanel = panel("error-title", "Last error", parts.mistake);
  parts.factsPanel = panel("facts-title", "Facts", parts.facts);
  const panels = [parts.lifePanel, parts.mistakePanel, parts.reply, parts.factsPanel];
  for (const node of [parts.state, parts.trouble, ...panels]) node.hidden = true;
  root.append(
    h("a", { class: "back", href: ctx.lastList(), "data-shortcut": "u" }, "All jobs"),
    h("div", { class: "view-head" }, parts.heading, parts.state, parts.bar),
    ...[idLine(ctx, id), parts.trouble, parts.progress, h("div", { class: "job-panels" }, panels)],
  );
  return parts;
}

/** Show what the server says of the job; `over`: it is closed, and this was its last state. */
function show(parts, job, over) {
  setText(parts.heading, `Job of ${job.service}`);
  setText(parts.state, over ? "closed" : job.state);
  setAttribute(parts.state, "class", `badge ${over ? "closed" : job.state}`);
  parts.state.hidden = parts.factsPanel.hidden = false;
  parts.bar.update(over ? null : job);
  setText(parts.progress, !over && job.progress ? `Progress: ${job.progress}` : "");
  setText(parts.mistake, job.last_error);
  parts.mistakePanel.hidden = over || !job.last_error || job.state === "succeeded";
  replace(
    parts.facts,
    factsOf(job).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
  parts.reply.update(over ? null : job);
}

/** Mount the view of the job with this id. */
export function mount(root, ctx, id) {
  const { model } = ctx;
  const parts = skeleton(root, ctx, id, () => poller.now());
  const { lifeNote, trouble } = parts;
  const stop = new AbortController();
  let job = null;
  let over = false;
  let lookedBack = false;

  const drawLife = () => {
    const events = model.life(id);
    if (!job && !events.length) return;
    parts.lifePanel.hidden = false;
    const life = lifeOf(over ? null : job, events, serverNow());
    parts.drawing.draw(life);
    setText(
      lifeNote,
      life.unknown
        ? "The server no longer keeps the events of all attempts; what is missing is hatched."
        : "",
    );
  };
  const draw = () => {
    show(parts, job, over);
    drawLife();
  };
  const finish = (words) => {
    over = true;
    setText(trouble, words);
    trouble.hidden = false;
    if (job) draw();
    else drawLife();
    poller.stop();
  };
  const ask = async () => {
    try {
      job = await ctx.api.json(`/v1/jobs/${id}`, { signal: stop.signal });
    } catch (error) {
      if (stop.signal.aborted) return;
      const words = gone(error);
      if (words) return finish(words);
      setText(trouble, wordsOf(error));
      trouble.hidden = false;
      throw error;
    }
    trouble.hidden = true;
    draw();
    if (lookedBack || !model.has("/v1/events")) return;
    lookedBack = true;
    lookBack(ctx, job, stop.signal).then(drawLife, (error) =>
      setText(lifeNote, `Its events cannot be read. ${wordsOf(error)}`),
    );
  };
  const poller = model.poll(ask, {
    everyMs: () => (model.isLive || (job && ENDED.has(job.state)) ? 10_000 : 2_000),
    gapMs: 400,
  });
  const concerns = ({ detail }) => detail.job === id && (poller.nudge(), drawLife());
  model.addEventListener("event", concerns, { signal: stop.signal });
  const ticking = setInterval(() => job && !over && !ENDED.has(job.state) && drawLife(), 1_000);
  return {
    title: `Job ${id.slice(0, 8)}`,
    heading: parts.heading,
    refresh: () => poller.now(),
    end() {
      stop.abort();
      clearInterval(ticking);
      model.unpoll(poller);
      parts.reply.end();
    },
  };
}
