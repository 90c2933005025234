// Elements without HTML strings. Whatever comes from a job reaches the page as a text node or as the value of
// a harmless attribute; the page's policy (trusted-types 'none') makes the browser refuse anything else.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** An HTML element; an attribute whose value is a function is a listener of the event of that name. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** A section with a heading that names it; `id` is the heading's. */
export function panel(id, title, ...children) {
  return h("section", { class: "panel", "aria-labelledby": id }, h("h2", { id }, title), children);
}

/** Sets the text of a node, and touches nothing if it is the same: a screen reader hears changes only. */
export function setText(node, value) {
  const text = value === null || value === undefined ? "" : String(value);
  if (node.textContent !== text) node.textContent = text;
}

/** Sets or removes an attribute, if that changes anything. */
export function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/** The node has these children and no others. */
export function replace(node, ...children) {
  node.replaceChildren();
  append(node, children);
  return node;
}

const kept = new WeakMap();

/**
 * The parent has one child per item, in order. Children are kept by key, so focus, selection and scrolling
 * survive an update. make(item) gives a node; node.update(item) brings it up to date.
 */
export function keyed(parent, items, keyOf, make) {
  const before = kept.get(parent) ?? new Map();
  const now = new Map();
  for (const item of items) {
    const key = keyOf(item);
    now.set(key, before.get(key) ?? make(item));
  }
  for (const [key, node] of before) if (!now.has(key)) node.remove();
  let at = parent.firstChild;
  const rows = items.values();
  for (const node of now.values()) {
    node.update(rows.next().value);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  kept.set(parent, now);
}
