// Makes elements; text never becomes markup.

const SVG = "http://www.w3.org/2000/svg";
const SVG_NAMES = new Set(["svg", "path", "line", "circle", "polygon", "g"]);

/** make("button", {type: "button", onclick}, "Text", child, ...) */
export function make(name, attributes = {}, ...children) {
  const element = SVG_NAMES.has(name) ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function byId(id) {
  return document.getElementById(id);
}

/** A slider with its label and value. */
export function slider({ label, min, max, step, value, show = String, change }) {
  const output = make("output", {}, show(value));
  const input = make("input", {
    type: "range", min, max, step, value, "aria-label": label,
    oninput: () => { output.textContent = show(Number(input.value)); },
    onchange: () => change(Number(input.value)),
  });
  const field = make("label", { class: "field" }, make("span", {}, label, output), input);
  return { field, set: (next) => { input.value = next; output.textContent = show(next); } };
}

/** A box to tick, with its label. */
export function check(label, change = () => {}) {
  const input = make("input", { type: "checkbox", onchange: change });
  return { input, field: make("label", { class: "check" }, input, label) };
}

export function group(title, ...children) {
  const id = `group-${title.toLowerCase().replaceAll(" ", "-")}`;
  return make("section", { class: "group", "aria-labelledby": id }, make("h2", { id }, title), ...children);
}

const PATHS = {
  undo: "M9 14 4.5 9.5 9 5M5 9.5h9a5.5 5.5 0 0 1 0 11h-3",
  redo: "m15 14 4.5-4.5L15 5m4 4.5h-9a5.5 5.5 0 0 0 0 11h3",
  clear: "M6 6l12 12M18 6 6 18",
  compass: "M12 3v18M3 12h18M5.6 5.6l12.8 12.8M18.4 5.6 5.6 18.4",
  back: "M19 12H5m6-6-6 6 6 6",
  swap: "M7 4 3.5 7.5 7 11M3.5 7.5h16M17 13l3.5 3.5L17 20M20.5 16.5h-16",
  dice: "M5 5h14v14H5zM9 9h.01M15 9h.01M12 12h.01M9 15h.01M15 15h.01",
};

export function icon(name) {
  return make("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, make("path", { d: PATHS[name] }));
}
