// The node, or the two nodes of a pair: role, epoch, sequence and how far the one lags behind the other.

import { wordsOf } from "./api.js";
import { h, keyed, setText } from "./dom.js";
import { count, relative } from "./format.js";

function lagWords(node, nodes) {
  if (typeof node.lag === "number") return node.lag === 0 ? "none" : `${count(node.lag)} records`;
  return nodes.length > 1 ? "not known" : "no peer";
}

function card() {
  const role = h("span", { class: "node-role" });
  const state = h("span", { class: "badge" });
  const reason = h("p", { class: "fault" });
  const names = {
    epoch: "Epoch",
    sequence: "Sequence",
    lag: "Lag",
    durability: "Durability",
    jobs: "Open jobs",
    started: "Started",
  };
  const facts = Object.fromEntries(Object.keys(names).map((name) => [name, h("dd", {})]));
  const node = h(
    "li",
    { class: "node" },
    h("div", { class: "node-head" }, role, state),
    reason,
    h(
      "dl",
      { class: "facts" },
      Object.entries(names).map(([name, words]) => h("div", {}, h("dt", {}, words), facts[name])),
    ),
  );
  node.update = ({ row, nodes }) => {
    setText(role, row.name ? `${row.name}: ${row.role}` : row.role);
    setText(state, row.ready ? "takes work" : "not ready");
    state.className = `badge ${row.ready ? "succeeded" : "paused"}`;
    node.classList.toggle("active", row.ready);
    setText(reason, row.reason);
    reason.hidden = !row.reason;
    setText(facts.epoch, row.epoch);
    setText(facts.sequence, typeof row.sequence === "number" ? count(row.sequence) : "—");
    setText(facts.lag, lagWords(row, nodes));
    setText(facts.durability, row.durability);
    setText(facts.jobs, typeof row.jobs === "number" ? count(row.jobs) : "—");
    setText(facts.started, row.started_at ? relative(row.started_at) : "—");
  };
  return node;
}

/** The panel; end() stops its questions. */
export function nodesPanel(ctx) {
  const list = h("ul", { class: "nodes" });
  const note = h("p", { class: "empty" }, "Asking the server…");
  const title = h("h2", { id: "nodes-title" }, "Node");
  const node = h("section", { class: "panel", "aria-labelledby": "nodes-title" }, title, list, note);
  const ask = async () => {
    let nodes;
    try {
      ({ nodes } = await ctx.api.json("/v1/nodes"));
    } catch (error) {
      setText(note, wordsOf(error));
      note.hidden = false;
      throw error;
    }
    setText(title, nodes.length > 1 ? "Pair" : "Node");
    list.classList.toggle("pair", nodes.length > 1);
    note.hidden = true;
    keyed(
      list,
      nodes.map((row) => ({ row, nodes })),
      ({ row }) => nodes.indexOf(row),
      card,
    );
  };
  const poller = ctx.model.poll(ask, { everyMs: () => 5_000 });
  node.end = () => ctx.model.unpoll(poller);
  return node;
}
