// A picture on the stage with what a model, or the simulator, makes of it.

import { drawArrows } from "./arrows.js";
import { make } from "./dom.js";

export class Pane {
  #answer = null;
  #aspect = 1;

  constructor({ caption = "", dot = "", label = "" } = {}) {
    this.picture = make("canvas", { class: "picture", "aria-hidden": "true" });
    this.frames = make("canvas", { class: "answer", "aria-hidden": "true" });
    this.svg = make("svg", { class: "arrows", "aria-hidden": "true" });
    this.board = make("div", { class: "board", role: "img", "aria-label": label },
      this.picture, this.frames, this.svg, make("div", { class: "busy-bar" }));
    this.text = make("b", {}, caption);
    this.note = make("span", {});
    const name = make("figcaption", { class: "caption" }, make("span", { class: `dot ${dot}` }), this.text, this.note);
    this.element = make("figure", { class: "pane" }, this.board, caption ? name : null);
  }

  /** Make the board something that can be poked, by keyboard too. */
  makePokable(description) {
    this.board.classList.add("can-poke");
    this.board.setAttribute("role", "application");
    this.board.setAttribute("aria-roledescription", "picture to poke");
    this.board.setAttribute("aria-describedby", description);
    this.board.tabIndex = 0;
  }

  get aspect() {
    return this.#aspect;
  }

  setPicture(bitmap, width, height) {
    this.#aspect = width / height;
    this.element.style.setProperty("--aspect", this.#aspect);
    paint(this.picture, bitmap);
    this.setAnswer(null);
  }

  /** Show an answer in place of the picture; null shows the picture again. */
  setAnswer(answer, video = 0) {
    this.#answer = answer && { ...answer, shown: answer.videos[video] };
    this.frames.hidden = !answer;
    this.setProblem(null);
    if (answer) {
      const [left, top, width, height] = answer.box;
      Object.assign(this.frames.style, {
        left: `${left * 100}%`, top: `${top * 100}%`, width: `${width * 100}%`, height: `${height * 100}%`,
      });
    }
  }

  get available() {
    return this.#answer ? this.#answer.shown.length : Infinity;
  }

  /** Show frame `index` of the answer; 0 is the picture as the model sees it. */
  show(index) {
    if (!this.#answer) return;
    const { start, shown } = this.#answer;
    paint(this.frames, index === 0 || !shown.length ? start : shown[Math.min(index, shown.length) - 1]);
    this.board.dataset.frame = index;
  }

  setArrows(arrows, { isFaded = false, cross = null } = {}) {
    drawArrows(this.svg, arrows, this.#aspect, cross);
    this.svg.classList.toggle("faded", isFaded);
  }

  setBusy(isBusy) {
    this.board.setAttribute("aria-busy", String(isBusy));
  }

  setNote(text) {
    this.note.textContent = text;
  }

  /** Say what went wrong, in the picture; retry is what its button does. */
  setProblem(text, retry = null) {
    this.problem?.remove();
    if (!text) return;
    const button = retry && make("button", { type: "button", onclick: retry }, "Try again");
    this.problem = make("div", { class: "problem", role: "alert" }, make("span", {}, text), button);
    this.board.append(this.problem);
  }
}

/** Show a bitmap on a canvas, pixel for pixel. */
export function paint(canvas, bitmap) {
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
}
