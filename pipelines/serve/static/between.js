// What lies between two pictures: several ways from the first to the last.

import { group, icon, make, slider } from "./dom.js";
import { paint } from "./pane.js";
import { Wall } from "./wall.js";

const NAMES = { start: "Start", end: "End" };

export class Between extends Wall {
  #ends = { start: null, end: null };
  #active = "start"; // the one that the next picture is for

  constructor(desk) {
    super(desk);
    this.seed = 0;
    this.num = 4;
    const again = make("button", { type: "button", class: "primary", id: "again", onclick: () => { this.seed += 1; this.refresh(); } }, icon("dice"), "Another draw");
    const swap = make("button", { type: "button", onclick: () => this.#swap() }, icon("swap"), "Swap start and end");
    const num = slider({ label: "Videos", min: 1, max: 10, step: 1, value: this.num, change: (value) => { this.num = value; this.refresh(); } });
    desk.controls.replaceChildren(group("Between", again, swap, num.field,
      make("p", { class: "small" }, "Choose the start or the end on the stage, then a picture for it. Both must have one size.")));
  }

  /** A picture for the chosen end; a generated start brings its own end along. */
  async setPicture(picture) {
    const slot = this.#active;
    this.#ends[slot] = picture;
    const end = slot === "start" && this.desk.pictures.all.find((each) => each.id === picture.end);
    if (end) {
      try {
        const { bitmap } = await this.desk.pictures.load(end);
        if (this.hasLeft || this.#ends.start !== picture) return; // another was chosen meanwhile
        this.#ends.end = { ...end, bitmap };
      } catch (error) {
        this.desk.fail(error, end.name);
      }
    } else if (slot === "start" && !picture.is_generated && (this.#ends.end?.is_generated ?? true)) {
      this.#ends.end = null; // what a generated picture became is no end of this one
      this.#active = "end";
    } else if (slot === "end") {
      this.#active = "start";
    }
    this.refresh();
  }

  refresh() {
    const { start, end } = this.#ends;
    this.picture = start ?? end;
    if (!this.picture) return;
    this.layOut(this.#slot("start"), this.num, this.#slot("end"));
    if (!start || !end) {
      this.desk.hint(`Now choose the ${start ? "end" : "start"}: pick or drop another picture.`);
      this.rest();
      return;
    }
    this.desk.hint("");
    this.request("/between", { run: this.desk.run.name, start: start.id, end: end.id, num: this.num, seed: this.seed });
  }

  #swap() {
    const { start, end } = this.#ends;
    this.#ends = { start: end, end: start };
    this.refresh();
  }

  #slot(name) {
    const picture = this.#ends[name];
    const canvas = make("canvas", { "aria-hidden": "true" });
    if (picture) paint(canvas, picture.bitmap);
    const says = `${NAMES[name]}: ${picture?.name ?? "none yet"}`;
    const tile = make("button", {
      type: "button", class: "tile slot", "data-slot": name, "aria-label": says, title: says, "aria-pressed": String(name === this.#active),
      onclick: () => this.#choose(name),
    }, canvas, make("span", { class: "label" }, picture ? NAMES[name].toLowerCase() : `no ${name} yet`));
    tile.style.setProperty("--aspect", this.picture.width / this.picture.height);
    return tile;
  }

  #choose(name) {
    this.#active = name;
    for (const tile of this.desk.stage.querySelectorAll(".slot")) tile.setAttribute("aria-pressed", String(tile.dataset.slot === name));
    this.desk.hint(`Pick or drop a picture for the ${name}.`);
  }
}
