// Confirmation, the API key, the list of shortcuts: native dialogs, which keep the focus inside.

import { h, replace, setText } from "./dom.js";
import { keyFault } from "./api.js";
import { SHORTCUTS, shortcutsOn, turnShortcuts } from "./shortcuts.js";

function open(dialog) {
  document.body.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // the backdrop
  });
  dialog.showModal();
}

/** Whether the person says yes. The safe answer has the focus; Escape and the backdrop are a no. */
export function confirm({ title, body, yes, no = "Keep it", danger = false }) {
  return new Promise((resolve) => {
    let said = false;
    const close = () => dialog.close();
    const agree = () => {
      said = true;
      dialog.close();
    };
    const dialog = h(
      "dialog",
      { class: "dialog", "aria-labelledby": "dialog-title", close: () => resolve(said) },
      h("h2", { id: "dialog-title" }, title),
      h("p", {}, body),
      h(
        "div",
        { class: "dialog-actions" },
        h("button", { type: "button", class: "button", autofocus: true, click: close }, no),
        h(
          "button",
          { type: "button", class: danger ? "button danger" : "button primary", click: agree },
          yes,
        ),
      ),
    );
    open(dialog);
  });
}

/** Asks for an API key and gives it to `api`; `why` is what the server said. */
export function askKey(api, why) {
  if (document.querySelector("dialog.key-dialog")) return;
  const input = h("input", {
    ...{ id: "key-input", type: "password", autocomplete: "off", spellcheck: "false", autocapitalize: "off" },
    ...{ "aria-describedby": "key-fault key-note", autofocus: true },
  });
  const fault = h("p", { id: "key-fault", class: "fault", role: "alert" });
  const take = (event) => {
    event.preventDefault();
    const key = input.value.trim().replace(/^Bearer\s+/i, "");
    const wrong = keyFault(key);
    setText(fault, wrong);
    if (wrong) return input.focus();
    dialog.close();
    api.key = key;
  };
  const forget = () => {
    dialog.close();
    api.key = "";
  };
  const dialog = h(
    "dialog",
    { class: "dialog key-dialog", "aria-labelledby": "dialog-title" },
    h(
      "form",
      { submit: take, novalidate: true },
      h("h2", { id: "dialog-title" }, "API key"),
      h("p", {}, why),
      h("label", { for: "key-input" }, "Key (key-id.secret)"),
      input,
      fault,
      h(
        "p",
        { id: "key-note", class: "note" },
        "It is kept in this tab only, until the tab is closed, and sent to this server only.",
      ),
      h(
        "div",
        { class: "dialog-actions" },
        api.key ? h("button", { type: "button", class: "button", click: forget }, "Forget the key") : null,
        h("button", { type: "button", class: "button", click: () => dialog.close() }, "Close"),
        h("button", { type: "submit", class: "button primary" }, "Use this key"),
      ),
    ),
  );
  open(dialog);
}

/** The shortcuts, and the switch that turns them off. */
export function showHelp() {
  if (document.querySelector("dialog[open]")) return;
  const list = h("dl", { class: "shortcuts" });
  replace(
    list,
    SHORTCUTS.map(({ keys, words }) => [
      h(
        "dt",
        {},
        keys.map((key, at) => [at ? " then " : null, h("kbd", {}, key)]),
      ),
      h("dd", {}, words),
    ]),
  );
  const box = h("input", { type: "checkbox", id: "shortcuts-on", change: () => turnShortcuts(box.checked) });
  box.checked = shortcutsOn();
  const dialog = h(
    "dialog",
    { class: "dialog help-dialog", "aria-labelledby": "dialog-title" },
    h("h2", { id: "dialog-title" }, "Keyboard"),
    h("p", { class: "note" }, "Everything can be reached with Tab and Enter. These are quicker:"),
    list,
    h("div", { class: "check" }, box, h("label", { for: "shortcuts-on" }, "Single keys act as shortcuts")),
    h(
      "div",
      { class: "dialog-actions" },
      h("button", { type: "button", class: "button", autofocus: true, click: () => dialog.close() }, "Close"),
    ),
  );
  open(dialog);
}
