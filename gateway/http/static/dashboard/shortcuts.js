// Single keys that act while no field has the focus, and no dialog is open. They can be turned off (WCAG 2.1.4).

const ITEM = "titanic.shortcuts";
const SECOND_KEY_MS = 1_200;

export const SHORTCUTS = [
  { keys: ["?"], words: "This list" },
  { keys: ["g", "s"], words: "Services" },
  { keys: ["g", "j"], words: "Jobs" },
  { keys: ["/"], words: "Search" },
  { keys: ["j"], words: "Next row" },
  { keys: ["k"], words: "Row before" },
  { keys: ["Enter"], words: "Open the row" },
  { keys: ["n"], words: "Older jobs (next page)" },
  { keys: ["p"], words: "Newest jobs (first page)" },
  { keys: ["r"], words: "Ask the server again" },
  { keys: ["c"], words: "Cancel the job shown" },
  { keys: ["t"], words: "Retry the job shown" },
  { keys: ["x"], words: "Close the job shown" },
  { keys: ["u"], words: "Back to the list of jobs" },
];

export function shortcutsOn() {
  return localStorage.getItem(ITEM) !== "off";
}

export function turnShortcuts(on) {
  if (on) localStorage.removeItem(ITEM);
  else localStorage.setItem(ITEM, "off");
}

function isTyping(target) {
  return (
    target instanceof Element &&
    target.closest("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]")
  );
}

/** The first visible control marked data-shortcut with this key is clicked, or focused if it is a field. */
function press(key) {
  for (const node of document.querySelectorAll("[data-shortcut]")) {
    if (node.dataset.shortcut !== key || node.disabled || !node.checkVisibility()) continue;
    if (node.matches("input, select")) {
      node.focus();
      node.select?.();
    } else node.click();
    return true;
  }
  return false;
}

function step(by) {
  const rows = [...document.querySelectorAll("[data-row]")].filter((row) => row.checkVisibility());
  if (!rows.length) return false;
  const at = rows.indexOf(document.activeElement);
  const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by));
  rows[next].focus();
  return true;
}

/** Listen. `commands` are functions by key, or by two keys with a blank between; they win over the page. */
export function listen(commands) {
  let first = "";
  let at = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (!shortcutsOn() || isTyping(event.target) || document.querySelector("dialog[open]")) return;
    const key = event.key;
    const both = first && Date.now() - at < SECOND_KEY_MS ? `${first} ${key}` : "";
    first = "";
    let done = true;
    if (both in commands) commands[both]();
    else if (key in commands) commands[key]();
    else if (Object.keys(commands).some((name) => name.startsWith(`${key} `)))
      [first, at] = [key, Date.now()];
    else if (key === "j") done = step(1);
    else if (key === "k") done = step(-1);
    else done = press(key);
    if (done) event.preventDefault();
  });
}
