// Small drawings in SVG. Colours come from the style sheet, by class; nothing here sets a style.

import { WINDOW_MS } from "./model.js";
import { svg } from "./dom.js";

const WIDTH = 120;
const HEIGHT = 28;
const PAD = 2;
const LEAST_MS = 60_000; // the first minute is drawn as one; then the window widens to its five

/** A sparkline that draws samples [{at, ...}] of up to five minutes; `lines`: [{of, name, filled}]. */
export function sparkline(label, lines) {
  const paths = lines.map(({ name, filled }) => ({
    area: filled ? svg("path", { class: `area ${name}` }) : null,
    line: svg("path", { class: `line ${name}` }),
  }));
  const node = svg(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
    svg("path", { class: "base", d: `M0 ${HEIGHT - PAD}H${WIDTH}` }),
    paths.map(({ area, line }) => [area, line]),
  );
  node.draw = (samples, words) => {
    node.setAttribute("aria-label", `${label}: ${words}`);
    const now = Date.now();
    const width = Math.min(WINDOW_MS, Math.max(LEAST_MS, now - (samples[0]?.at ?? now)));
    const x = (at) => Math.max(0, WIDTH * (1 - (now - at) / width));
    const top = Math.max(1, ...samples.flatMap((sample) => lines.map(({ of }) => of(sample))));
    const y = (value) => HEIGHT - PAD - ((HEIGHT - 2 * PAD) * value) / top;
    lines.forEach(({ of }, at) => {
      const points = samples.map((sample) => `${x(sample.at).toFixed(1)} ${y(of(sample)).toFixed(1)}`);
      const { area, line } = paths[at];
      const some = points.length > 1 && samples.some((sample) => of(sample) > 0);
      line.setAttribute("d", some ? `M${points.join("L")}` : "");
      if (!area) return;
      const [from, to] = some ? [x(samples[0].at), x(samples.at(-1).at)] : [0, 0];
      const ground = HEIGHT - PAD;
      area.setAttribute(
        "d",
        some ? `M${from.toFixed(1)} ${ground}L${points.join("L")}L${to.toFixed(1)} ${ground}Z` : "",
      );
    });
  };
  return node;
}

function point(radius, turn) {
  const angle = 2 * Math.PI * turn - Math.PI / 2;
  return `${(radius * Math.cos(angle)).toFixed(2)} ${(radius * Math.sin(angle)).toFixed(2)}`;
}

/** The path of a piece of a ring between two turns (0–1, clockwise from the top). */
export function arc(inner, outer, from, to) {
  const end = Math.min(to, from + 0.99999);
  const large = end - from > 0.5 ? 1 : 0;
  return (
    `M${point(outer, from)}A${outer} ${outer} 0 ${large} 1 ${point(outer, end)}` +
    `L${point(inner, end)}A${inner} ${inner} 0 ${large} 0 ${point(inner, from)}Z`
  );
}
