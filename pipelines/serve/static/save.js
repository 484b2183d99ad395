// What can be taken away: files of the answer, and the command that makes it again.

import { file } from "./api.js";
import { byId, make } from "./dom.js";

export class Save {
  #answer = null;

  constructor(fail) {
    this.fail = fail;
    this.buttons = byId("save-buttons");
    this.command = byId("command");
    this.copy = byId("copy");
    this.copy.addEventListener("click", () => this.#copy());
    this.offer(null);
  }

  /** files: [label, name on the server] each; the answer must be there to its end. */
  offer(answer, files = []) {
    this.#answer = answer;
    const shown = files.length ? files : [["MP4", ""], ["GIF", ""]];
    this.buttons.replaceChildren(...shown.map(([label, name]) =>
      make("button", { type: "button", disabled: !answer, "data-file": name, onclick: (event) => this.#download(event.currentTarget, name) }, label)));
    this.command.textContent = answer?.command ?? "";
    byId("command-box").hidden = !answer?.command;
  }

  async #download(button, name) {
    button.setAttribute("aria-busy", "true");
    button.disabled = true;
    try {
      const blob = await file(`/answers/${this.#answer.id}/${name}`);
      const url = URL.createObjectURL(blob);
      make("a", { href: url, download: `i2v-${this.#answer.id.slice(0, 6)}-${name}` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    } catch (error) {
      this.fail(error);
    } finally {
      button.removeAttribute("aria-busy");
      button.disabled = false;
    }
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.command.textContent);
    } catch { // not every browser lets a page do that: mark it, so that Ctrl-C does
      getSelection().selectAllChildren(this.command);
    }
    this.copy.textContent = "Copied";
    setTimeout(() => { this.copy.textContent = "Copy"; }, 1500);
  }
}
