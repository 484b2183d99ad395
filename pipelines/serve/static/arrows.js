// Arrows on a picture: drawn, dragged with a finger or a mouse, set with the keyboard.
// Places and lengths are parts of the picture's width and height.

import { make } from "./dom.js";

const SHORTEST = 0.015;
const STEP = 1 / 64;
const LONG_STEP = 1 / 12;
const WIDTH = 1000; // of the drawing; its height goes with the picture

/** Draw arrows, and the keyboard's cross where there is one, into an svg. */
export function drawArrows(svg, arrows, aspect, cross = null) {
  const height = WIDTH / aspect;
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
  const parts = arrows.flatMap((arrow) => shape(arrow, height));
  if (cross) parts.push(...crossAt(cross.x * WIDTH, cross.y * height));
  svg.replaceChildren(...parts);
}

function shape({ x, y, dx, dy }, height) {
  const from = [x * WIDTH, y * height];
  const move = [dx * WIDTH, dy * height];
  const length = Math.hypot(...move);
  const thick = 9;
  if (length < 1) return [make("circle", { class: "halo", cx: from[0], cy: from[1], r: 15 }), make("circle", { class: "line", cx: from[0], cy: from[1], r: 10 })];
  const along = move.map((part) => part / length);
  const head = Math.min(46, Math.max(24, length * 0.45));
  const tip = from.map((part, i) => part + move[i]);
  const neck = tip.map((part, i) => part - along[i] * head * 0.8);
  const side = [-along[1] * head * 0.52, along[0] * head * 0.52];
  const base = tip.map((part, i) => part - along[i] * head);
  const corners = [tip, base.map((part, i) => part + side[i]), base.map((part, i) => part - side[i])];
  const points = corners.map((corner) => corner.join(",")).join(" ");
  const line = { x1: from[0], y1: from[1], x2: neck[0], y2: neck[1] };
  return [["halo", thick + 8, 8], ["line", thick, 2]].map(([name, width, rim]) =>
    make("g", { class: name },
      make("line", { ...line, "stroke-width": width }),
      make("circle", { cx: from[0], cy: from[1], r: 9, "stroke-width": rim }),
      make("polygon", { points, "stroke-width": rim })));
}

function crossAt(x, y) {
  const d = `M${x - 30} ${y}h22m16 0h22M${x} ${y - 30}v22m0 16v22`;
  return [make("path", { class: "cross", d, "stroke-width": 11 }), make("path", { class: "cross inner", d, "stroke-width": 5 })];
}

/** Listens on a board. draft(arrow or null) while it is made, done(arrow, isAdded) at its end. */
export class ArrowInput {
  #start = null;
  #cross = null; // where the keyboard is
  #anchor = null; // where the keyboard began an arrow

  constructor(board, { draft, done, say, isReady }) {
    this.board = board;
    this.draft = draft;
    this.done = done;
    this.say = say;
    this.isReady = isReady;
    board.addEventListener("pointerdown", (event) => this.#press(event));
    board.addEventListener("pointermove", (event) => this.#move(event));
    board.addEventListener("pointerup", (event) => this.#release(event));
    board.addEventListener("pointercancel", () => this.#cancel());
    board.addEventListener("keydown", (event) => this.#key(event));
    board.addEventListener("focus", () => {
      if (board.matches(":focus-visible")) this.#showCross();
    });
    board.addEventListener("blur", () => this.#cancel());
  }

  get cross() {
    return this.#cross;
  }

  #place(event) {
    const box = this.board.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  }

  #press(event) {
    if (event.button !== 0 || !event.isPrimary || !this.isReady() || event.target.closest("button")) return;
    event.preventDefault();
    this.board.setPointerCapture(event.pointerId);
    this.board.focus({ preventScroll: true, focusVisible: false });
    this.#cross = this.#anchor = null;
    this.#start = inside(this.#place(event));
    this.draft({ ...this.#start, dx: 0, dy: 0 });
  }

  #move(event) {
    if (this.#start && event.isPrimary) this.draft(between(this.#start, this.#place(event)));
  }

  #release(event) {
    if (!this.#start || !event.isPrimary) return;
    const arrow = between(this.#start, this.#place(event));
    this.#start = null;
    this.#finish(arrow, event.shiftKey);
  }

  #finish(arrow, isAdded) {
    if (Math.hypot(arrow.dx, arrow.dy) < SHORTEST) {
      this.draft(null);
      this.say("Press on the picture and drag: the arrow says where to.");
      return;
    }
    this.done(arrow, isAdded);
  }

  #cancel() {
    if (!this.#start && !this.#cross) return;
    this.#start = this.#cross = this.#anchor = null;
    this.draft(null);
  }

  #showCross() {
    this.#cross ??= { x: 0.5, y: 0.5 };
    this.draft(null);
  }

  #key(event) {
    if (!this.isReady() || event.ctrlKey || event.metaKey || event.altKey) return;
    const turn = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (turn) {
      event.preventDefault();
      const step = event.shiftKey ? LONG_STEP : STEP;
      this.#cross ??= { x: 0.5, y: 0.5 };
      this.#cross = inside({ x: this.#cross.x + turn[0] * step, y: this.#cross.y + turn[1] * step });
      this.draft(this.#anchor && between(this.#anchor, this.#cross));
      this.say(`${this.#anchor ? "tip" : "cross"} at ${percent(this.#cross.x)} from the left, ${percent(this.#cross.y)} from the top`);
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      if (!this.#anchor) {
        this.#cross ??= { x: 0.5, y: 0.5 };
        this.#anchor = this.#cross;
        this.draft({ ...this.#anchor, dx: 0, dy: 0 });
        this.say("The arrow begins here. Move its tip with the arrow keys, then press Enter.");
      } else {
        const arrow = between(this.#anchor, this.#cross);
        this.#anchor = null;
        this.#finish(arrow, event.shiftKey);
      }
    } else if (event.key === "Escape") {
      this.#cancel();
    }
  }
}

function inside({ x, y }) {
  return { x: Math.min(0.9999, Math.max(0, x)), y: Math.min(0.9999, Math.max(0, y)) };
}

function between(start, end) {
  const limit = (value) => Math.min(1, Math.max(-1, value));
  return { ...start, dx: limit(end.x - start.x), dy: limit(end.y - start.y) };
}

function percent(part) {
  return `${Math.round(part * 100)} %`;
}
