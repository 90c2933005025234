// One job's life: what is known of it, as steps and as spans of time. Pure: no page, no clock.

import { ENDED } from "./format.js";

const STEP_WORDS = {
  accepted: "Accepted: durable on disk",
  started: "Attempt started",
  retrying: "Attempt failed",
  progress: "Progress",
  succeeded: "Reply stored",
  failed: "Failed: a dead letter",
  cancelled: "Cancelled",
  retried: "Put back by hand",
  callback: "Callback",
  closed: "Closed: request and reply deleted",
};
const ENDS = { succeeded: "kept", failed: "dead", cancelled: "dead" };

function stepOf(event) {
  const attempt =
    event.kind === "started" || event.kind === "retrying" ? ` ${event.attempt || ""}`.trimEnd() : "";
  const words = (STEP_WORDS[event.kind] ?? event.kind).replace("Attempt", `Attempt${attempt}`);
  return {
    at: Date.parse(event.at),
    kind: event.kind,
    words,
    detail: event.detail ?? "",
    attempt: event.attempt,
  };
}

/** Steps the status alone proves, where no event tells of them. */
function fromStatus(job, kinds) {
  const steps = [];
  const add = (at, kind, words, detail = "") =>
    at && steps.push({ at: Date.parse(at), kind, words, detail, attempt: job.attempts });
  if (!kinds.has("accepted")) add(job.created_at, "accepted", STEP_WORDS.accepted);
  if (!ENDED.has(job.state) || kinds.has(job.state)) return steps;
  const words = { ...STEP_WORDS, failed: `Failed after ${job.attempts} of its attempts` };
  add(
    job.ended_at ?? job.replied_at,
    job.state,
    words[job.state],
    job.state === "succeeded" ? "" : (job.last_error ?? ""),
  );
  return steps;
}

/**
 * {steps, marks, spans, from, to, unknown} of a job's status (null once it is gone) and its events, oldest first.
 * Spans have a kind: scheduled, waiting, running, backoff, unknown. `unknown`: attempts nobody saw are missing.
 */
export function lifeOf(job, events, now) {
  const kinds = new Set(events.map(({ kind }) => kind));
  const steps = [...events.map(stepOf), ...(job ? fromStatus(job, kinds) : [])];
  steps.sort((a, b) => a.at - b.at);
  const seenFrom = events.length ? Date.parse(events[0].at) : Infinity;
  const whole = kinds.has("accepted");
  const spans = [];
  let since = null;
  let kind = "";
  const turn = (at, next) => {
    if (since !== null && kind && at >= since) spans.push({ from: since, to: at, kind });
    [since, kind] = [at, next];
  };
  for (const step of steps) {
    if (step.kind === "accepted") {
      const due = job?.due_at ? Date.parse(job.due_at) : 0;
      if (!whole && step.at < seenFrom)
        turn(step.at, job && !job.attempts && !ENDED.has(job.state) ? "waiting" : "unknown");
      else
        turn(step.at, job?.state === "scheduled" && due > step.at && !job.attempts ? "scheduled" : "waiting");
    } else if (step.kind === "started") turn(step.at, "running");
    else if (step.kind === "retrying") turn(step.at, "backoff");
    else if (step.kind === "retried") turn(step.at, "waiting");
    else if (step.kind in ENDS || step.kind === "closed") turn(step.at, "");
  }
  const over = !job || ENDED.has(job.state);
  const first = steps.length ? steps[0].at : now;
  if (kind && !over) turn(now, "");
  const marks = steps.filter(({ kind: what }) => what !== "callback"); // told after the end, not part of it
  const last = Math.max(first, ...marks.map(({ at }) => at), ...spans.map(({ to }) => to));
  const starts = events.filter((event) => event.kind === "started").length;
  return {
    steps,
    marks,
    spans,
    from: first,
    to: last,
    over,
    unknown: Boolean(job) && !whole && job.attempts > starts,
  };
}
