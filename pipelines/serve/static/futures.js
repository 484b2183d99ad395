// Futures of one picture: another draw, calmer or wilder, and where an arm shall end.

import { drawArrows } from "./arrows.js";
import { group, icon, make, slider } from "./dom.js";
import { paint } from "./pane.js";
import { Wall } from "./wall.js";

export class Sample extends Wall {
  constructor(desk) {
    super(desk);
    this.seed = 0;
    this.temperature = 1;
    this.frames = desk.run.frames;
    this.num = 8;
    this.endpoint = null;
    const again = make("button", { type: "button", class: "primary", id: "again", onclick: () => this.again() }, icon("dice"), "Another draw");
    const temperature = slider({
      label: "Temperature", min: 0, max: 2, step: 0.05, value: 1, show: (value) => value.toFixed(2),
      change: (value) => { this.temperature = value; this.refresh(); },
    });
    const frames = slider({
      label: "Frames", min: 2, max: 64, step: 1, value: this.frames,
      change: (value) => { this.frames = value; this.refresh(); },
    });
    const num = slider({ label: "Videos", min: 1, max: 12, step: 1, value: this.num, change: (value) => { this.num = value; this.refresh(); } });
    desk.controls.replaceChildren(group("Futures", again, temperature.field, frames.field, num.field));
  }

  again() {
    this.seed += 1;
    this.refresh();
  }

  refresh() {
    if (!this.picture) return;
    const { run } = this.desk;
    this.layOut(this.#first(), this.num);
    if (run.has_endpoint && !this.endpoint) {
      this.desk.hint("Click on the first picture: the arm shall end there.");
      this.rest();
      return;
    }
    this.desk.hint("");
    const endpoint = run.has_endpoint ? this.endpoint : null;
    this.request("/sample", { run: run.name, image: this.picture.id, num: this.num, seed: this.seed, temperature: this.temperature, frames: this.frames, endpoint });
  }

  #first() {
    const { has_endpoint: canPoint } = this.desk.run;
    const canvas = make("canvas", { "aria-hidden": "true" });
    paint(canvas, this.picture.bitmap);
    const svg = make("svg", { class: "arrows", "aria-hidden": "true" });
    const aspect = this.picture.width / this.picture.height;
    drawArrows(svg, [], aspect, this.endpoint && { x: this.endpoint[0], y: this.endpoint[1] });
    const attributes = canPoint
      ? { role: "application", tabindex: 0, "aria-label": "Where the arm shall end: arrow keys move the cross, Enter sets it" }
      : { role: "img", "aria-label": "the picture" };
    const tile = make("div", { class: `tile start ${canPoint ? "can-point" : ""}`, ...attributes }, canvas, svg, make("span", { class: "label" }, "picture"));
    tile.style.setProperty("--aspect", aspect);
    if (canPoint) this.#listen(tile, svg, aspect);
    return tile;
  }

  #listen(tile, svg, aspect) {
    let cross = this.endpoint ?? [0.5, 0.5];
    const set = () => {
      this.endpoint = cross.map((value) => Math.min(0.9999, Math.max(0, value)));
      this.refresh();
    };
    tile.addEventListener("click", (event) => {
      const box = tile.getBoundingClientRect();
      cross = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      set();
    });
    tile.addEventListener("keydown", (event) => {
      const turn = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (turn) {
        cross = cross.map((value, axis) => Math.min(0.9999, Math.max(0, value + turn[axis] / 32)));
        drawArrows(svg, [], aspect, { x: cross[0], y: cross[1] });
      } else if (event.key === "Enter" || event.key === " ") {
        set();
      } else {
        return;
      }
      event.preventDefault();
    });
  }
}
