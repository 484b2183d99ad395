// Many videos of one picture: drawn futures, or the motion of a clip.

import { Cancelled, ask, upload } from "./api.js";
import { drawArrows } from "./arrows.js";
import { group, icon, make, slider } from "./dom.js";
import { paint } from "./pane.js";

class Wall {
  #stop = null;

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
    this.#stop?.abort();
  }

  /** Put a picture and empty tiles on the stage. first: the element of the first tile. */
  layOut(first, count) {
    this.#stop?.abort();
    this.answer = null;
    this.chosen = 0;
    const aspect = this.picture.width / this.picture.height;
    this.tiles = Array.from({ length: count }, (_, video) => this.#tile(video, aspect));
    const wall = make("div", { class: "wall" }, first, ...this.tiles.map((tile) => tile.element));
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
    const { player, run } = this.desk;
    this.desk.say("answering");
    this.desk.stage.setAttribute("aria-busy", "true");
    player.load({
      length: question.frames, fps: run.fps,
      available: () => this.answer ? Math.min(...this.answer.videos.map((video) => video.length || question.frames)) : 0,
      show: (index) => this.show(index),
    });
    try {
      this.answer = await ask(path, { ...question, slot: this.desk.slot("wall") }, {
        signal: stop.signal,
        start: (begun) => { this.answer = begun; },
        frame: (begun, video, index) => {
          const { element } = this.tiles[video];
          element.classList.remove("empty");
          element.disabled = false;
          if (index === begun.frames - 1) player.arrived();
        },
      });
      this.#choose(0);
      this.desk.say(`${this.tiles.length} videos of ${question.frames} frames play`);
    } catch (error) {
      if (error instanceof Cancelled) return;
      player.clear();
      for (const { element } of this.tiles) element.classList.remove("empty");
      this.desk.fail(error);
    } finally {
      if (this.#stop === stop) this.desk.stage.removeAttribute("aria-busy");
    }
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
      for (const { element } of this.tiles) element.classList.remove("empty");
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

export class Transfer extends Wall {
  constructor(desk) {
    super(desk);
    this.frames = desk.run.frames;
    this.clip = null;
    const input = make("input", { type: "file", accept: "video/*,image/gif", class: "hidden-label", onchange: () => this.addClip(input.files[0]) });
    const frames = slider({ label: "Frames", min: 2, max: 64, step: 1, value: this.frames, change: (value) => { this.frames = value; this.refresh(); } });
    desk.controls.replaceChildren(group("Motion", make("label", { class: "button" }, input, "Choose a clip"),
      make("p", { class: "small" }, "Or drop one anywhere on the page: the picture moves the way it does."), frames.field));
  }

  async addClip(file) {
    if (!file) return;
    this.desk.say(`Sending ${file.name}`);
    this.desk.hint(`Reading ${file.name}`);
    try {
      this.clip = { ...await upload("/clips", file, file.name), url: URL.createObjectURL(file), isGif: file.type === "image/gif" };
    } catch (error) {
      this.desk.fail(error, file.name);
    }
    this.refresh();
  }

  refresh() {
    if (!this.picture) return;
    this.layOut(this.#first(), 1);
    if (!this.clip) {
      this.desk.hint("Drop a clip: its motion is given to the picture.");
      for (const { element } of this.tiles) element.classList.remove("empty");
      return;
    }
    this.desk.hint("");
    this.request("/transfer", { run: this.desk.run.name, image: this.picture.id, clip: this.clip.id, frames: this.frames });
  }

  #first() {
    if (!this.clip) return make("div", { class: "tile start" }, make("span", { class: "label" }, "no clip yet"));
    const film = this.clip.isGif
      ? make("img", { src: this.clip.url, alt: "the clip" })
      : make("video", { src: this.clip.url, muted: true, loop: true, autoplay: true, playsinline: true, "aria-label": "the clip" });
    film.muted = true;
    return make("div", { class: "tile start" }, film, make("span", { class: "label" }, this.clip.name));
  }
}
