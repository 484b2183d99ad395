// Many videos side by side: what all activities of that kind share.

import { Cancelled, ask } from "./api.js";
import { make } from "./dom.js";
import { paint } from "./pane.js";

export class Wall {
  #stop = null;
  hasLeft = false; // the stage belongs to another activity now

  constructor(desk) {
    this.desk = desk;
    this.answer = null;
    this.tiles = [];
    this.chosen = 0;
    desk.stage.className = "panes";
    desk.stage.style.setProperty("--columns", 1);
  }

  setPicture(picture) {
    this.picture = picture;
    this.refresh();
  }

  leave() {
    this.hasLeft = true;
    this.#stop?.abort();
  }

  /** Put empty tiles on the stage. first, last: elements of the tiles before and after them. */
  layOut(first, count, last = null) {
    this.#stop?.abort();
    this.answer = null;
    this.chosen = 0;
    const aspect = this.picture.width / this.picture.height;
    this.tiles = Array.from({ length: count }, (_, video) => this.#tile(video, aspect));
    const wall = make("div", { class: "wall" }, first, ...this.tiles.map((tile) => tile.element), last ?? "");
    wall.classList.toggle("few", count === 1);
    wall.style.setProperty("--aspect", aspect);
    this.desk.stage.replaceChildren(wall);
    this.desk.player.clear();
    this.desk.save.offer(null);
  }

  #tile(video, aspect) {
    const canvas = make("canvas", { "aria-hidden": "true" });
    paint(canvas, this.picture.bitmap);
    const element = make("button", {
      type: "button", class: "tile empty", "aria-label": `Video ${video + 1}`, "aria-pressed": "false", disabled: true,
      onclick: () => this.#choose(video),
    }, canvas);
    element.style.setProperty("--aspect", aspect);
    return { element, canvas };
  }

  async request(path, question) {
    const stop = new AbortController();
    this.#stop = stop;
    const { player } = this.desk;
    this.desk.say("answering");
    this.desk.stage.setAttribute("aria-busy", "true");
    try {
      this.answer = await ask(path, { ...question, slot: this.desk.slot("wall") }, {
        signal: stop.signal,
        start: (begun) => {
          this.answer = begun;
          player.load({
            length: begun.frames, fps: begun.fps,
            available: () => Math.min(...begun.videos.map((video) => video.length || begun.frames)),
            show: (index) => this.show(index),
          });
        },
        frame: (begun, video, index) => {
          const { element } = this.tiles[video];
          element.classList.remove("empty");
          element.disabled = false;
          if (index === begun.frames - 1) player.arrived();
        },
      });
      this.#choose(0);
      const { length } = this.tiles;
      this.desk.say(`${length} ${length === 1 ? "video" : "videos"} of ${this.answer.frames} frames ${length === 1 ? "plays" : "play"}`);
    } catch (error) {
      if (error instanceof Cancelled) {
        // An older question that came late has taken the place of this one: ask again.
        if (this.#stop === stop && !stop.signal.aborted) this.request(path, question);
        return;
      }
      player.clear();
      this.rest();
      this.desk.fail(error);
    } finally {
      if (this.#stop === stop) this.desk.stage.removeAttribute("aria-busy");
    }
  }

  /** Nothing is on its way: the tiles stand still. */
  rest() {
    for (const { element } of this.tiles) element.classList.remove("empty");
  }

  show(index) {
    if (!this.answer) return;
    this.answer.videos.forEach((frames, video) => {
      if (frames.length) paint(this.tiles[video].canvas, index === 0 ? this.answer.start : frames[Math.min(index, frames.length) - 1]);
    });
  }

  #choose(video) {
    this.chosen = video;
    this.tiles.forEach(({ element }, number) => element.setAttribute("aria-pressed", String(number === video && this.tiles.length > 1)));
    if (!this.answer?.isDone) return;
    const one = this.tiles.length > 1 ? `answer-s${video}` : "answer";
    const all = this.tiles.length > 1 ? [["MP4 of all", "grid.mp4"]] : [];
    this.desk.save.offer(this.answer, [["MP4", `${one}.mp4`], ["GIF", `${one}.gif`], ...all]);
  }
}
