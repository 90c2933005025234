// Draws a life as a bar to scale with its steps on it, and tells the same as a list.

import { h, replace, svg } from "./dom.js";
import { clock, exact, span } from "./format.js";

const HEIGHT = 44;
const TOP = 14;
const BAR = 16;
const LEAST = 3;
const STEPS_MAX = 60;
const SPAN_WORDS = {
  ...{ scheduled: "not due yet", waiting: "waiting for a worker", running: "running" },
  ...{ backoff: "waiting for the next attempt", unknown: "steps not known" },
};

function bar(life, width) {
  const length = Math.max(1, life.to - life.from);
  const x = (at) => ((at - life.from) / length) * (width - 2 * BAR) + BAR;
  const pieces = life.spans.map(({ from, to, kind }) => {
    const piece = svg("rect", {
      ...{ class: `span ${kind}`, x: x(from).toFixed(1), y: TOP, height: BAR, rx: 3 },
      width: Math.max(LEAST, x(to) - x(from)).toFixed(1),
    });
    piece.append(svg("title", {}, `${SPAN_WORDS[kind]}: ${span(to - from)}`));
    return piece;
  });
  const marks = life.marks
    .filter(({ kind }) => kind !== "progress")
    .map((step) => {
      const mark = svg("circle", {
        class: `mark ${step.kind}`,
        cx: x(step.at).toFixed(1),
        cy: TOP + BAR / 2,
        r: 6,
      });
      mark.append(svg("title", {}, `${step.words}, ${exact(new Date(step.at).toISOString())}`));
      return mark;
    });
  const spent = {};
  for (const { from, to, kind } of life.spans) spent[kind] = (spent[kind] ?? 0) + to - from;
  const words = Object.entries(spent).map(([kind, ms]) => `${span(ms)} ${SPAN_WORDS[kind]}`);
  const label = `Time line: ${words.join(", ") || "no time spent yet"}.`;
  const track = svg("rect", {
    class: "track",
    x: BAR,
    y: TOP + BAR / 2 - 1,
    width: Math.max(0, width - 2 * BAR),
    height: 2,
  });
  const box = {
    class: "life-bar",
    role: "img",
    "aria-label": label,
    viewBox: `0 0 ${width} ${HEIGHT}`,
    width,
    height: HEIGHT,
  };
  return [svg("svg", box, track, pieces, marks), spent];
}

function legend(spent) {
  const items = Object.entries(spent).map(([kind, ms]) =>
    h("li", {}, h("span", { class: `swatch ${kind}` }), `${SPAN_WORDS[kind]} `, h("b", {}, span(ms))),
  );
  return h("ul", { class: "legend" }, items);
}

/** A node with draw(life). */
export function timeline() {
  const drawing = h("div", { class: "life-drawing" });
  const ends = h("div", { class: "life-ends" });
  const below = h("div", {});
  const list = h("ol", { class: "steps" });
  const more = h("p", { class: "note" });
  const node = h("div", { class: "life" }, drawing, ends, below, list, more);
  let life = null;
  const paint = () => {
    if (!life || !drawing.clientWidth) return;
    const [picture, spent] = bar(life, drawing.clientWidth);
    replace(drawing, picture);
    replace(below, legend(spent));
  };
  new ResizeObserver(paint).observe(drawing);
  let told = "";
  node.draw = (next) => {
    life = next;
    paint();
    const begun = new Date(life.from).toISOString();
    const last = life.over
      ? `ended ${span(life.to - life.from)} later`
      : `now, ${span(life.to - life.from)} later`;
    replace(ends, h("span", {}, clock(begun)), h("span", {}, last));
    const key = JSON.stringify(life.steps);
    if (key === told) return;
    told = key;
    const shown = life.steps.slice(-STEPS_MAX);
    replace(
      list,
      shown.map((step) =>
        h(
          "li",
          { class: `step ${step.kind}` },
          h("span", { class: `dot ${step.kind}` }),
          h("span", { class: "step-words" }, step.words),
          h(
            "time",
            { datetime: new Date(step.at).toISOString(), title: exact(new Date(step.at).toISOString()) },
            `+${span(step.at - life.from)}`,
          ),
          step.detail ? h("p", { class: "step-detail" }, step.detail) : null,
        ),
      ),
    );
    replace(
      more,
      life.steps.length > STEPS_MAX ? `The first ${life.steps.length - STEPS_MAX} steps are left out.` : "",
    );
  };
  return node;
}
