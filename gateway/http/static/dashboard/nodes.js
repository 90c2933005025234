// The node, or the two nodes of a pair: role, epoch, sequence and how far the one lags behind the other.

import { wordsOf } from "./api.js";
import { h, keyed, setText } from "./dom.js";
import { age, count, relative } from "./format.js";

function syncWords(node) {
  if (typeof node.in_sync !== "boolean") return "—";
  return node.in_sync ? "yes" : "no";
}

/** The state; of a node that does not answer, what its peer heard last, and when. */
function stateWords(node) {
  if (typeof node.heard_ms_ago !== "number") return node.state ?? "—";
  return `was ${node.state}, ${age(node.heard_ms_ago)} ago`;
}

function badge(node) {
  if (node.ready) return ["takes work", "succeeded"];
  if (node.reachable === false) return ["does not answer", "failed"];
  return node.in_sync ? ["stands by", "queued"] : ["not ready", "paused"];
}

function lagWords(node, nodes) {
  if (typeof node.lag === "number") return node.lag === 0 ? "none" : `${count(node.lag)} records`;
  return nodes.length > 1 ? "not known" : "no peer";
}

function card() {
  const role = h("span", { class: "node-role" });
  const state = h("span", { class: "badge" });
  const where = h("p", { class: "node-where" });
  const reason = h("p", { class: "fault" });
  const names = {
    state: "State",
    sync: "In sync",
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
    where,
    reason,
    h(
      "dl",
      { class: "facts" },
      Object.entries(names).map(([name, words]) => h("div", {}, h("dt", {}, words), facts[name])),
    ),
  );
  node.update = ({ row, nodes }) => {
    setText(role, row.name ? `${row.name}: ${row.role}` : row.role);
    const [words, look] = badge(row);
    setText(state, words);
    state.className = `badge ${look}`;
    setText(where, row.endpoint ?? "");
    where.hidden = !row.endpoint;
    node.classList.toggle("active", row.ready);
    const standsBy = row.in_sync && row.reachable !== false; // its reason is that the other node serves
    setText(reason, row.reason);
    reason.hidden = !row.reason || standsBy;
    setText(facts.state, stateWords(row));
    setText(facts.sync, syncWords(row));
    for (const pairs of [facts.state, facts.sync]) pairs.parentElement.hidden = !row.name;
    setText(facts.epoch, row.epoch ?? "—");
    setText(facts.sequence, typeof row.sequence === "number" ? count(row.sequence) : "—");
    setText(facts.lag, lagWords(row, nodes));
    setText(facts.durability, row.durability ?? "—");
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
