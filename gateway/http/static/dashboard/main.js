// The start: asks what the server offers, follows it, and shows the view that the address names.

import { Api, Problem, wordsOf } from "./api.js";
import { askKey, showHelp } from "./dialogs.js";
import { h, replace, setText } from "./dom.js";
import { wholeId } from "./format.js";
import * as job from "./job.js";
import * as jobs from "./jobs.js";
import { Model } from "./model.js";
import * as services from "./services.js";
import { listen } from "./shortcuts.js";

const NOTICE_MS = 7_000;
const RETRY_MS = 3_000;

const byId = (id) => document.getElementById(id);
const api = new Api();
const model = new Model(api);
let view = null;
let list = "#/jobs";
let hideNotice = 0;

/** Says something below the page, and to a screen reader. */
function say(words, isError = false) {
  const notice = byId("notice");
  clearTimeout(hideNotice);
  notice.classList.toggle("bad", isError);
  notice.hidden = false;
  setText(notice, words);
  hideNotice = setTimeout(() => {
    setText(notice, "");
    notice.hidden = true;
  }, NOTICE_MS);
}

const ctx = { api, model, say, lastList: () => list };

function mountView(root) {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const id = path.startsWith("jobs/") ? wholeId(path.slice(5)) : null;
  if (id) return ["jobs", job.mount(root, ctx, id)];
  if (path === "jobs") {
    list = location.hash;
    return ["jobs", jobs.mount(root, ctx, new URLSearchParams(query))];
  }
  if (path.startsWith("jobs/")) {
    const heading = h("h1", { tabindex: "-1" }, "Not a job id");
    root.append(heading, h("p", { class: "empty" }, "A job id is 32 hexadecimal digits."));
    return ["jobs", { title: "Not a job id", heading, refresh() {}, end() {} }];
  }
  return ["services", services.mount(root, ctx)];
}

function route(event) {
  view?.end();
  const root = replace(byId("view"));
  const [name, mounted] = mountView(root);
  view = mounted;
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${view.title} · Titanic`;
  if (!event) return;
  view.heading.focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** [kind, words, sentence] of the connection. */
function connection() {
  if (api.locked) return ["locked", "Key needed", "This server needs an API key."];
  if (!model.reachable)
    return [
      "down",
      "Disconnected",
      "The server cannot be reached. What is shown is from before; the page asks again by itself.",
    ];
  if (model.health && !model.health.ready) return ["unready", "Not ready", model.health.reason];
  if (model.stream.state === "open") return ["live", "Live", ""];
  if (model.stream.state === "connecting" || !model.health) return ["polling", "Connecting", ""];
  if (model.stream.state === "busy") return ["polling", "Polling", ""];
  return ["polling", "Polling", ""];
}

function showConnection() {
  const [kind, words, sentence] = connection();
  const node = byId("connection");
  node.dataset.kind = kind;
  setText(byId("connection-words"), words);
  const banner = byId("banner");
  setText(byId("banner-words"), sentence);
  banner.hidden = !sentence;
  byId("banner-key").hidden = kind !== "locked";
  byId("key-button").hidden = !api.key && kind !== "locked";
  const { health } = model;
  const facts = health?.ready
    ? [health.role, `epoch ${health.epoch}`, health.durability, `version ${health.version}`]
    : [];
  setText(byId("server-facts"), facts.join(" · "));
}

function keyWords(locked) {
  if (!locked) return api.key ? "A key is in use. Type another one, or forget it." : "Type a key to use.";
  return locked.hadKey
    ? "The server does not know the key in use any more, or never did."
    : "This server needs an API key.";
}

function wire() {
  addEventListener("hashchange", route);
  for (const type of ["connection", "health", "services"]) model.addEventListener(type, showConnection);
  api.addEventListener("locked", ({ detail }) => {
    showConnection();
    askKey(api, keyWords(detail));
  });
  for (const id of ["key-button", "banner-key"])
    byId(id).addEventListener("click", () => askKey(api, keyWords(null)));
  byId("help-button").addEventListener("click", showHelp);
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    (view?.heading ?? byId("view")).focus();
  });
  listen({
    "?": showHelp,
    "g s": () => (location.hash = "#/"),
    "g j": () => (location.hash = "#/jobs"),
    r: () => {
      view?.refresh();
      say("Asked again.");
    },
  });
}

async function start() {
  try {
    await model.start();
  } catch (error) {
    const why = error instanceof Problem ? wordsOf(error) : "The server cannot be reached.";
    replace(
      byId("view"),
      h("p", { class: "empty", role: "alert" }, `${why} The page tries again by itself.`),
    );
    setTimeout(start, RETRY_MS);
    return;
  }
  for (const link of document.querySelectorAll("[data-needs]")) link.hidden = !model.has(link.dataset.needs);
  route(null);
  showConnection();
}

wire();
start();
