// The strip of pictures: generated ones that fit the model, and those that were sent.

import { decode, file, get, upload } from "./api.js";
import { byId, make } from "./dom.js";

export class Pictures {
  #own = [];
  #examples = [];
  #loaded = new Map(); // id -> promise of {bitmap, url}
  #offers = 0; // what was begun for an earlier offer must not reach the stage of a later one

  constructor({ choose, fail, say }) {
    this.choose = choose;
    this.fail = fail;
    this.say = say;
    this.list = byId("thumbnails");
    this.chosen = null;
    byId("add").addEventListener("change", (event) => {
      this.add([...event.target.files]);
      event.target.value = "";
    });
  }

  /** Offer the generated pictures of a run; keep the chosen picture if it is an own one. */
  async offerFor(run) {
    const offer = (this.#offers += 1);
    const examples = await get(`/examples?run=${encodeURIComponent(run)}`);
    if (offer !== this.#offers) return;
    this.#examples = examples;
    const stays = this.#own.find((each) => each.id === this.chosen?.id);
    this.#draw();
    await this.select(stays ?? this.#own[0] ?? this.#examples[0]);
  }

  /** Send files and choose the last one that was taken. */
  async add(files) {
    for (const each of files) {
      this.list.prepend(make("li", { class: "thumbnail busy" }));
      this.say(`Sending ${each.name}`);
      try {
        const picture = await upload("/pictures", each, each.name);
        this.#own.unshift(picture);
        await this.select(picture);
      } catch (error) {
        this.fail(error, each.name);
      }
      this.#draw();
    }
  }

  async select(picture) {
    if (!picture) return;
    const offer = this.#offers;
    this.chosen = picture;
    for (const button of this.list.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.id === picture.id));
    }
    try {
      const { bitmap } = await this.load(picture);
      if (this.chosen === picture && offer === this.#offers) this.choose({ ...picture, bitmap });
    } catch (error) {
      this.fail(error, picture.name);
    }
  }

  /** All pictures there are, the own ones first. */
  get all() {
    return [...this.#own, ...this.#examples];
  }

  load(picture) {
    if (!this.#loaded.has(picture.id)) {
      const loading = file(`/pictures/${picture.id}`).then(async (blob) => ({
        bitmap: await decode(blob), url: URL.createObjectURL(blob),
      }));
      loading.catch(() => this.#loaded.delete(picture.id));
      this.#loaded.set(picture.id, loading);
    }
    return this.#loaded.get(picture.id);
  }

  #draw() {
    const all = [...this.#own, ...this.#examples];
    this.list.replaceChildren(...all.map((picture) => {
      const image = make("img", { alt: "" });
      this.load(picture).then(({ url }) => { image.src = url; }, () => {});
      const button = make("button", {
        type: "button", class: "thumbnail", "aria-label": picture.name, title: picture.name, "data-id": picture.id,
        "aria-pressed": String(picture.id === this.chosen?.id), onclick: () => this.select(picture),
      }, image);
      return make("li", {}, button);
    }));
  }
}
