// Plays what is on the stage: one clock for all panes. Index 0 is the still picture.

import { byId } from "./dom.js";

const HOLD_S = 0.5; // the last frame stands a moment before it begins again

export class Player {
  #timer = 0;
  #index = 0;
  #show = () => {};
  #length = 0;
  #available = () => 0;
  #fps = 8;
  isPlaying = true;

  constructor() {
    this.button = byId("play");
    this.scrub = byId("scrub");
    this.number = byId("frame-number");
    this.button.addEventListener("click", () => this.#set(!this.isPlaying));
    this.scrub.addEventListener("input", () => {
      this.#set(false);
      this.#go(Number(this.scrub.value));
    });
    this.clear();
  }

  get index() {
    return this.#index;
  }

  /** length: frames after the still picture; available(): how many of them are there already. */
  load({ length, fps, available, show }) {
    Object.assign(this.scrub, { disabled: false, max: length });
    this.button.disabled = false;
    this.#length = length;
    this.#fps = fps;
    this.#available = available;
    this.#show = show;
    this.#set(true);
    this.#go(0);
  }

  /** A frame has come. The first is shown at once. */
  arrived() {
    if (this.isPlaying && this.#index === 0 && this.#available() >= 1) {
      this.#go(1);
      this.#plan();
    }
  }

  clear() {
    clearTimeout(this.#timer);
    this.#length = 0;
    this.#show = () => {};
    Object.assign(this.scrub, { disabled: true, max: 1, value: 0 });
    this.button.disabled = true;
    this.number.textContent = "–";
  }

  toggle() {
    if (this.#length) this.#set(!this.isPlaying);
  }

  #set(isPlaying) {
    this.isPlaying = isPlaying;
    this.button.setAttribute("aria-label", isPlaying ? "Pause" : "Play");
    this.#plan();
  }

  #go(index) {
    this.#index = Math.min(index, this.#length);
    this.scrub.value = this.#index;
    this.number.textContent = `${this.#index} / ${this.#length}`;
    this.scrub.setAttribute("aria-valuetext", this.#index ? `frame ${this.#index} of ${this.#length}` : "the picture");
    this.#show(this.#index);
  }

  #plan() {
    clearTimeout(this.#timer);
    if (!this.isPlaying || !this.#length) return;
    const isLast = this.#index >= this.#length;
    const wait_s = 1 / this.#fps + (isLast ? HOLD_S : 0);
    this.#timer = setTimeout(() => {
      const next = isLast ? 0 : this.#index + 1;
      if (next <= this.#available()) this.#go(next);
      this.#plan();
    }, wait_s * 1000);
  }
}
