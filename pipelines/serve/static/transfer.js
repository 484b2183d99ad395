// A picture that moves the way a clip does: one that is dropped, or a generated one.

import { file, get, upload } from "./api.js";
import { check, group, make, slider } from "./dom.js";
import { Wall } from "./wall.js";

const MOST_FRAMES = 64;

export class Transfer extends Wall {
  constructor(desk) {
    super(desk);
    this.frames = desk.run.frames;
    this.clip = null;
    const input = make("input", { type: "file", accept: "video/*,image/gif", class: "hidden-label", onchange: () => this.addClip(input.files[0]) });
    this.length = slider({ label: "Frames", min: 2, max: MOST_FRAMES, step: 1, value: this.frames, change: (value) => { this.frames = value; this.refresh(); } });
    this.offers = make("ul", { class: "offers", "aria-label": "Generated clips" });
    desk.controls.replaceChildren(
      group("Motion", make("label", { class: "button" }, input, "Choose a clip"),
        make("p", { class: "small" }, "Or drop one anywhere on the page: the picture moves the way it does."), this.offers),
      group("Answer", this.length.field, ...this.#switches()));
    this.#offer();
  }

  #switches() {
    if (!this.desk.run.has_keypoints) return [];
    this.relative = check("Relative to the clip's first frame", () => {
      this.scale.input.disabled = !this.relative.input.checked;
      this.refresh();
    });
    this.relative.input.checked = true;
    this.scale = check("Fit moves to the picture's size", () => this.refresh());
    return [this.relative.field, this.scale.field];
  }

  /** Show the generated clips; the first one is taken until somebody chooses. */
  async #offer() {
    try {
      const clips = await get(`/clips?run=${encodeURIComponent(this.desk.run.name)}`);
      const buttons = await Promise.all(clips.map(async (clip) => {
        const url = URL.createObjectURL(await file(`/clips/${clip.id}/film`));
        const shown = { ...clip, url, isGif: true };
        const button = make("button", { type: "button", class: "thumbnail", "aria-label": clip.name, title: clip.name, "data-clip": clip.id, "aria-pressed": "false", onclick: () => this.#take(shown) },
          make("img", { src: url, alt: "" }));
        return { shown, item: make("li", {}, button) };
      }));
      if (this.hasLeft) return;
      this.offers.replaceChildren(...buttons.map(({ item }) => item));
      if (!this.clip && buttons.length) this.#take(buttons[0].shown);
      else this.#mark();
    } catch (error) {
      this.desk.fail(error);
    }
  }

  #mark() {
    for (const button of this.offers.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.clip === this.clip?.id));
  }

  #take(clip) {
    this.clip = clip;
    if (this.desk.run.has_keypoints) {
      this.frames = Math.min(MOST_FRAMES, Math.max(2, clip.frames));
      this.length.set(this.frames);
    }
    this.#mark();
    this.refresh();
  }

  async addClip(sent) {
    if (!sent) return;
    this.desk.say(`Sending ${sent.name}`);
    this.desk.hint(`Reading ${sent.name}`);
    try {
      const clip = await upload("/clips", sent, sent.name);
      if (this.hasLeft) return;
      this.#take({ ...clip, url: URL.createObjectURL(sent), isGif: sent.type === "image/gif" });
    } catch (error) {
      if (!this.hasLeft) this.desk.hint("");
      this.desk.fail(error, sent.name);
    }
  }

  refresh() {
    if (!this.picture) return;
    this.layOut(this.#first(), 1);
    if (!this.clip) {
      this.desk.hint("Drop a clip: its motion is given to the picture.");
      this.rest();
      return;
    }
    this.desk.hint("");
    const question = { run: this.desk.run.name, image: this.picture.id, clip: this.clip.id, frames: this.frames };
    const how = this.relative ? { relative: this.relative.input.checked, adapt_scale: this.relative.input.checked && this.scale.input.checked } : {};
    this.request("/transfer", { ...question, ...how });
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
