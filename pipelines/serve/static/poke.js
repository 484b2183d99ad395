// Poking: arrows on a picture, and beside each other what one or two models and a simulator answer.

import { Cancelled, ask } from "./api.js";
import { ArrowInput, drawArrows } from "./arrows.js";
import { check, group, icon, make, slider } from "./dom.js";
import { Pane, paint } from "./pane.js";

const KEPT_ANSWERS = 24;
const DIRECTIONS = 8;
const TRUTH = "truth";
const HINT = "Press on the picture and drag. With the keyboard: arrow keys, Enter, arrow keys, Enter.";

export class Poke {
  #history = [[]]; // lists of arrows, the newest last
  #place = 0;
  #draft = null;
  #answers = new Map(); // what was asked -> its answer
  #questions = new Map(); // pane -> what stops its question
  #compass = null;
  #panes = [];

  constructor(desk) {
    this.desk = desk;
    this.frames = desk.run.frames;
    this.#makeControls();
    this.#layOut();
    this.keys = (event) => this.#key(event);
    document.addEventListener("keydown", this.keys);
  }

  get #arrows() {
    return this.#history[this.#place];
  }

  setPicture(picture) {
    this.picture = picture;
    this.#history = [[]];
    this.#place = 0;
    this.isTrue.field.hidden = !picture.has_truth;
    this.#layOut();
  }

  leave() {
    document.removeEventListener("keydown", this.keys);
    this.#stopAll();
  }

  // What is on the stage

  #layOut() {
    this.#stopAll();
    this.#compass = null;
    const { stage, run } = this.desk;
    const other = this.beside?.value;
    const wants = [{ run: run.name, caption: run.name, dot: "" }];
    if (other) wants.push({ run: other, caption: other, dot: "" });
    if (this.isTrue?.input.checked && this.picture?.has_truth) wants.push({ run: TRUTH, caption: "true answer", dot: "truth" });
    this.#panes = wants.map(({ run: name, caption, dot }) => {
      const pane = new Pane({ caption: wants.length > 1 ? caption : "", dot, label: `Picture, ${caption}. Drag an arrow.` });
      pane.run = name;
      pane.makePokable("hint");
      pane.input = new ArrowInput(pane.board, {
        draft: (arrow) => this.#setDraft(arrow, pane),
        done: (arrow, isAdded) => this.#add(arrow, isAdded || this.several.input.checked),
        say: this.desk.say,
        isReady: () => Boolean(this.picture),
      });
      return pane;
    });
    stage.className = wants.length > 1 ? "panes many" : "panes";
    stage.style.setProperty("--columns", wants.length);
    stage.replaceChildren(...this.#panes.map((pane) => pane.element));
    if (this.picture) {
      for (const pane of this.#panes) pane.setPicture(this.picture.bitmap, this.picture.width, this.picture.height);
    }
    this.#refresh();
  }

  #setDraft(arrow, pane) {
    this.#draft = arrow;
    if (arrow) this.desk.player.clear();
    if (arrow) for (const each of this.#panes) each.setAnswer(null);
    this.#drawArrows(pane);
    if (!arrow && this.#arrows.length && !pane.input.cross) this.#ask();
  }

  #drawArrows(active = null) {
    const kept = this.#draft && !this.several.input.checked ? [] : this.#arrows;
    const shown = this.#draft ? [...kept, this.#draft] : kept;
    for (const pane of this.#panes) {
      pane.setArrows(shown, { isFaded: !this.#draft && shown.length > 0, cross: pane === active ? pane.input.cross : null });
    }
  }

  // Arrows and their history

  #add(arrow, isAdded) {
    this.releasedAt = performance.now();
    this.#draft = null;
    const kept = isAdded ? this.#arrows.slice(-15) : [];
    this.#history = [...this.#history.slice(0, this.#place + 1), [...kept, arrow]];
    this.#place = this.#history.length - 1;
    this.#refresh();
  }

  #go(step) {
    const place = this.#place + step;
    if (place < 0 || place >= this.#history.length) return;
    this.#place = place;
    const count = this.#arrows.length;
    this.desk.say(count ? `${count} ${count === 1 ? "arrow" : "arrows"}` : "no arrow");
    if (this.#compass) this.#layOut();
    else this.#refresh();
  }

  #clear() {
    if (!this.#arrows.length) return;
    this.#history = [...this.#history.slice(0, this.#place + 1), []];
    this.#place = this.#history.length - 1;
    if (this.#compass) this.#layOut();
    else this.#refresh();
  }

  #refresh() {
    this.undo.disabled = this.#place === 0;
    this.redo.disabled = this.#place === this.#history.length - 1;
    this.clear.disabled = this.directions.disabled = !this.#arrows.length;
    this.#drawArrows();
    this.desk.hint(this.#arrows.length ? "" : HINT);
    this.desk.save.offer(null);
    if (this.#arrows.length) this.#ask();
    else {
      this.#stopAll();
      this.desk.player.clear();
      for (const pane of this.#panes) pane.setAnswer(null);
    }
  }

  // Questions and answers

  #ask() {
    const panes = this.#panes;
    this.desk.player.load({
      length: this.frames,
      fps: this.desk.run.fps,
      available: () => Math.min(...panes.map((pane) => pane.available)),
      show: (index) => { for (const pane of panes) pane.show(index); },
    });
    for (const pane of panes) this.#askFor(pane);
  }

  async #askFor(pane) {
    this.#questions.get(pane)?.abort();
    const isMain = pane === this.#panes[0];
    const question = this.#question(pane.run);
    const key = JSON.stringify(question);
    const known = this.#answers.get(key);
    if (known) {
      pane.setAnswer(known);
      pane.setBusy(false);
      this.desk.player.arrived();
      if (isMain) this.#offer(known);
      return;
    }
    const stop = new AbortController();
    this.#questions.set(pane, stop);
    pane.setBusy(true);
    pane.setAnswer({ start: pane.picture, videos: [[]], box: [0, 0, 1, 1] });
    pane.show(0);
    this.desk.say("answering");
    const { path, ...body } = question;
    try {
      const answer = await ask(path, pane.run === TRUTH ? body : { ...body, slot: this.desk.slot(pane.run) }, {
        signal: stop.signal,
        start: (begun) => { pane.setAnswer(begun); pane.show(0); },
        frame: (begun, video, index) => {
          this.desk.player.arrived();
          if (isMain && index === 0) this.#measure("first frame");
        },
      });
      this.#remember(key, answer);
      if (isMain) {
        this.#measure("whole answer");
        this.#offer(answer);
        this.desk.say(`an answer of ${answer.frames} frames plays`);
      }
    } catch (error) {
      if (error instanceof Cancelled) {
        // An older question that came late has taken the place of this one: ask again.
        if (this.#questions.get(pane) === stop && !stop.signal.aborted) queueMicrotask(() => this.#askFor(pane));
        return;
      }
      pane.setAnswer(null);
      pane.setProblem(this.desk.words(error), () => this.#ask());
    } finally {
      if (this.#questions.get(pane) === stop) {
        this.#questions.delete(pane);
        pane.setBusy(false);
      }
    }
  }

  #question(name) {
    const common = { image: this.picture.id, frames: this.frames };
    const arrows = this.#arrows;
    if (name === TRUTH) return { path: "/truth", run: this.desk.run.name, ...common, arrow: arrows.at(-1) };
    return { path: "/poke", run: name, ...common, arrows };
  }

  #remember(key, answer) {
    this.#answers.set(key, answer);
    if (this.#answers.size > KEPT_ANSWERS) this.#answers.delete(this.#answers.keys().next().value);
  }

  #offer(answer) {
    this.desk.save.offer(answer, [["MP4", "answer.mp4"], ["GIF", "answer.gif"], ["Arrow PNG", "arrow.png"]]);
  }

  /** How long it took from the release of the arrow until this could be seen. */
  #measure(what) {
    const start = this.releasedAt;
    if (start === undefined) return;
    requestAnimationFrame(() => setTimeout(() => performance.measure(`i2v ${what}`, { start, end: performance.now() })));
  }

  #stopAll() {
    for (const stop of this.#questions.values()) stop.abort();
    this.#questions.clear();
    this.compassStop?.abort();
  }

  // One arrow, eight directions

  async #sweep() {
    const base = this.#arrows.at(-1);
    this.#stopAll();
    const stop = new AbortController();
    this.compassStop = stop;
    const { stage, player, run } = this.desk;
    const aspect = this.picture.width / this.picture.height;
    const turned = Array.from({ length: DIRECTIONS }, (_, turn) => turn * 2 * Math.PI / DIRECTIONS).map((angle) => turnedArrow(base, angle, aspect));
    const tiles = turned.map((arrow) => this.#tile(arrow, aspect));
    const cells = arrangeAround(turned, aspect).map((turn) => turn === null ? this.#back(base, aspect) : tiles[turn].element);
    const wall = make("div", { class: "wall" }, ...cells);
    wall.style.setProperty("--aspect", aspect);
    this.#compass = wall;
    stage.className = "panes";
    stage.style.setProperty("--columns", 1);
    stage.replaceChildren(wall);
    this.desk.hint("One place, eight directions: choose one to go on with it.");
    this.desk.save.offer(null);
    let answer = null;
    player.load({
      length: this.frames, fps: run.fps,
      available: () => answer ? Math.min(...answer.videos.map((video) => video.length || this.frames)) : 0,
      show: (index) => { if (answer) tiles.forEach((tile, video) => tile.show(answer, video, index)); },
    });
    try {
      const question = { run: run.name, image: this.picture.id, arrows: [base], frames: this.frames, directions: DIRECTIONS };
      answer = await ask("/poke", { ...question, slot: this.desk.slot(run.name) }, {
        signal: stop.signal,
        start: (begun) => { answer = begun; },
        frame: (begun, video, index) => {
          tiles[video].element.classList.remove("empty");
          if (index === begun.frames - 1) player.arrived();
        },
      });
      this.desk.save.offer(answer, [["MP4 of all", "grid.mp4"], ["Frames PNG", "grid.png"], ["Arrows PNG", "arrow.png"]]);
      this.desk.say("eight answers play");
    } catch (error) {
      if (error instanceof Cancelled) return;
      this.#layOut();
      this.desk.fail(error);
    }
  }

  #tile(arrow, aspect) {
    const canvas = make("canvas", { "aria-hidden": "true" });
    paint(canvas, this.picture.bitmap);
    const svg = make("svg", { class: "arrows faded", "aria-hidden": "true" });
    drawArrows(svg, [arrow], aspect);
    const element = make("button", {
      type: "button", class: "tile empty", "aria-label": `The way ${compassName(arrow, aspect)}`,
      onclick: () => this.#choose(arrow),
    }, canvas, svg);
    element.style.setProperty("--aspect", aspect);
    const show = (answer, video, index) => {
      const frames = answer.videos[video];
      paint(canvas, index === 0 || !frames.length ? answer.start : frames[Math.min(index, frames.length) - 1]);
    };
    return { element, show };
  }

  #back(base, aspect) {
    const canvas = make("canvas", { "aria-hidden": "true" });
    paint(canvas, this.picture.bitmap);
    const svg = make("svg", { class: "arrows", "aria-hidden": "true" });
    drawArrows(svg, [{ ...base, dx: 0, dy: 0 }], aspect);
    const element = make("button", { type: "button", class: "tile", "aria-label": "Back to one arrow", onclick: () => this.#layOut() },
      canvas, svg, make("span", { class: "label" }, "back"));
    element.style.setProperty("--aspect", aspect);
    return element;
  }

  #choose(arrow) {
    this.#history = [...this.#history.slice(0, this.#place + 1), [arrow]];
    this.#place = this.#history.length - 1;
    this.#layOut();
  }

  // Settings

  #makeControls() {
    const button = (name, label, press) => make("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick: press }, icon(name));
    this.undo = button("undo", "Undo", () => this.#go(-1));
    this.redo = button("redo", "Redo", () => this.#go(1));
    this.clear = button("clear", "Remove all arrows", () => this.#clear());
    this.several = check("Several arrows at once");
    this.directions = make("button", { type: "button", onclick: () => this.#sweep() }, icon("compass"), "Eight directions");
    const length = slider({
      label: "Frames", min: 2, max: Math.max(32, this.frames), step: 1, value: this.frames,
      change: (frames) => {
        this.frames = frames;
        if (this.#compass) this.#sweep();
        else this.#refresh();
      },
    });
    const others = this.desk.runs.filter((run) => run.can.includes("poke") && run !== this.desk.run);
    this.beside = make("select", { id: "beside", onchange: () => this.#layOut() },
      make("option", { value: "" }, "no other model"), ...others.map((run) => make("option", { value: run.name }, run.name)));
    const beside = make("label", { class: "field" }, make("span", {}, "Beside it"), this.beside);
    beside.hidden = !others.length;
    this.isTrue = check("The true answer", () => this.#layOut());
    this.desk.controls.replaceChildren(
      group("Arrows", make("div", { class: "row" }, this.undo, this.redo, this.clear), this.several.field, this.directions),
      group("Answer", length.field, beside, this.isTrue.field));
  }

  #key(event) {
    if (event.target.matches("input, select, textarea") && event.target.type !== "range" && event.target.type !== "checkbox") return;
    const isCommand = event.ctrlKey || event.metaKey;
    const letter = event.key.toLowerCase();
    if (isCommand && letter === "z") {
      event.preventDefault();
      this.#go(event.shiftKey ? 1 : -1);
    } else if (isCommand && letter === "y") {
      event.preventDefault();
      this.#go(1);
    } else if (event.key === "Escape" && this.#compass) {
      this.#layOut();
    }
  }
}

/** The same arrow in another direction of the picture as it is seen, clockwise. */
function turnedArrow(arrow, angle, aspect) {
  const [dx, dy] = [arrow.dx * aspect, arrow.dy];
  return {
    ...arrow,
    dx: (Math.cos(angle) * dx - Math.sin(angle) * dy) / aspect,
    dy: Math.sin(angle) * dx + Math.cos(angle) * dy,
  };
}

const CELLS = [5, 8, 7, 6, 3, 0, 1, 2]; // right, right down, down, ... in rows of three
const NAMES = ["right", "right and down", "down", "left and down", "left", "left and up", "up", "right and up"];

function eighth(arrow, aspect) {
  const turn = Math.round(Math.atan2(arrow.dy, arrow.dx * aspect) / (Math.PI / 4));
  return (turn + 8) % 8;
}

function compassName(arrow, aspect) {
  return NAMES[eighth(arrow, aspect)];
}

/** For nine cells the number of the arrow that points there from the middle, null for the middle. */
function arrangeAround(arrows, aspect) {
  const cells = Array(9).fill(null);
  arrows.forEach((_, turn) => { cells[CELLS[(eighth(arrows[0], aspect) + turn) % 8]] = turn; });
  return cells;
}
