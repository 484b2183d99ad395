// Puts the page together: which model, which picture, what to do with them.

import { Cancelled, ask, get, hasToken, setToken } from "./api.js";
import { Between } from "./between.js";
import { byId, make } from "./dom.js";
import { Sample } from "./futures.js";
import { Pictures } from "./pictures.js";
import { Player } from "./player.js";
import { Poke } from "./poke.js";
import { Save } from "./save.js";
import { Transfer } from "./transfer.js";

const ACTIVITIES = {
  poke: ["Poke", Poke],
  sample: ["Sample", Sample],
  transfer: ["Transfer", Transfer],
  between: ["Between", Between],
};
const PAGE = Array.from(crypto.getRandomValues(new Uint8Array(6)), (part) => part.toString(16).padStart(2, "0")).join("");
const TOAST_S = 8;

const state = { runs: [], run: null, picture: null, activity: null };
const player = new Player();
const save = new Save((error) => fail(error));
const pictures = new Pictures({ choose: choosePicture, fail, say });
let toastTimer = 0;

byId("theme").addEventListener("click", nextTheme);
byId("run").addEventListener("change", (event) => chooseRun(event.target.value));
document.addEventListener("keydown", (event) => {
  const isFree = !event.target.closest("input, select, textarea, button, summary, [role=application]");
  if (event.key === " " && isFree) {
    event.preventDefault();
    player.toggle();
  }
});
listenForDrops();
showTheme();
begin();

async function begin() {
  if (!hasToken()) return askForToken();
  try {
    const [runs, status] = await Promise.all([get("/runs"), get("/status")]);
    byId("folder").textContent = `Everything is kept in ${status.session}`;
    state.runs = runs.filter((run) => run.can.some((ability) => ability in ACTIVITIES));
  } catch (error) {
    if (error.status === 401) return askForToken(true);
    return notice("The server does not answer", words(error), make("button", { type: "button", class: "primary", onclick: begin }, "Try again"));
  }
  if (!state.runs.length) return sayThatThereIsNoRun();
  notice(null);
  for (const element of document.querySelectorAll(".needs-run")) element.hidden = false;
  byId("run").replaceChildren(...state.runs.map((run) => make("option", { value: run.name }, `${run.name} · ${run.family}, ${run.size_px} px`)));
  await chooseRun(state.runs[0].name);
}

async function chooseRun(name) {
  state.run = state.runs.find((run) => run.name === name);
  delete byId("stage").dataset.picture;
  byId("desk").hidden = false;
  const abilities = state.run.can.filter((ability) => ability in ACTIVITIES);
  byId("activities").replaceChildren(...abilities.map((ability) =>
    make("button", { type: "button", "aria-pressed": "false", "data-activity": ability, onclick: () => chooseActivity(ability) }, ACTIVITIES[ability][0])));
  chooseActivity(abilities[0], { withPicture: false });
  warm(state.run);
  try {
    await pictures.offerFor(name);
  } catch (error) {
    fail(error);
  }
}

function chooseActivity(ability, { withPicture = true } = {}) {
  state.activity?.leave();
  player.clear();
  save.offer(null);
  hint("");
  const [, Activity] = ACTIVITIES[ability];
  state.activity = new Activity({
    stage: byId("stage"), controls: byId("activity-controls"), run: state.run, runs: state.runs,
    player, save, pictures, hint, say, fail, words, slot: (name) => `${PAGE} ${name}`.slice(0, 64),
  });
  for (const button of byId("activities").children) button.setAttribute("aria-pressed", String(button.dataset.activity === ability));
  if (withPicture && state.picture) state.activity.setPicture(state.picture);
}

function choosePicture(picture) {
  state.picture = picture;
  state.activity?.setPicture(picture);
  byId("stage").dataset.picture = picture.id;
}

/** Have the model loaded while the person looks at the picture. */
async function warm(run) {
  try {
    await ask("/warm", { run: run.name, slot: `${PAGE} warm` });
  } catch (error) {
    if (!(error instanceof Cancelled) && run === state.run) fail(error, run.name);
  }
}

// Words

function say(text) {
  byId("status").textContent = text;
}

function hint(text) {
  byId("hint").textContent = text;
}

function words(error) {
  return error.text ?? `Something went wrong in this page: ${error.message}`;
}

function fail(error, what = "") {
  if (error instanceof Cancelled) return;
  if (error.status === 401) {
    askForToken(true);
    return;
  }
  if (!error.text) console.error(error);
  const toast = byId("alert");
  toast.textContent = what ? `${what}: ${words(error)}` : words(error);
  toast.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { toast.hidden = true; }, TOAST_S * 1000);
}

function notice(title, text = "", ...more) {
  const box = byId("notice");
  box.hidden = title === null;
  if (title === null) return;
  byId("desk").hidden = true;
  box.replaceChildren(make("h2", {}, title), make("p", {}, text), ...more);
}

function askForToken(isWrong = false) {
  const input = make("input", { type: "password", autocomplete: "off", "aria-label": "Address or key", placeholder: "address or key", required: true });
  const form = make("form", { onsubmit: (event) => {
    event.preventDefault();
    setToken(input.value);
    begin();
  } }, input, make("button", { class: "primary" }, "Open"));
  notice(isWrong ? "This key does not fit" : "This page needs its key",
    "i2v serve has printed an address that ends in #token=… Open that address, or paste it here. Each start has a new one.", form);
}

function sayThatThereIsNoRun() {
  notice("There is no model to ask yet", "A trained model of poke, cinn, fomm or inbetween will be offered here. To see the whole path on generated data:",
    make("pre", {}, "i2v demo"),
    make("p", {}, "To train one that answers arrows:"),
    make("pre", {}, "i2v download synthetic --kinds plant\ni2v extract-frames synthetic\ni2v train poke --preset demo"),
    make("button", { type: "button", onclick: begin }, "Look again"));
}

// Theme: as the system has it, or chosen

function nextTheme() {
  const isDark = getComputedStyle(document.documentElement).colorScheme === "dark"
    || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = isDark ? "light" : "dark";
  try {
    localStorage.setItem("i2v-theme", document.documentElement.dataset.theme);
  } catch {
    // it lasts as long as the page
  }
  showTheme();
}

function showTheme() {
  const chosen = document.documentElement.dataset.theme;
  byId("theme").setAttribute("aria-label", `Theme: ${chosen ?? "as the system"}`);
}

// Files dropped anywhere

function listenForDrops() {
  let depth = 0;
  const show = (isOver) => { byId("drop").hidden = !isOver; };
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (hasFiles(event)) show((depth += 1) > 0);
  });
  addEventListener("dragleave", (event) => {
    if (hasFiles(event)) show((depth = Math.max(0, depth - 1)) > 0);
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    show((depth = 0) > 0);
    take([...event.dataTransfer.files]);
  });
  addEventListener("paste", (event) => take([...(event.clipboardData?.files ?? [])]));
}

function take(files) {
  if (!state.run || !files.length) return;
  const isFilm = (file) => file.type.startsWith("video/") || file.type === "image/gif";
  const films = files.filter(isFilm);
  if (films.length && state.run.can.includes("transfer")) {
    if (!(state.activity instanceof Transfer)) chooseActivity("transfer");
    state.activity.addClip(films[0]);
  } else if (films.length) {
    fail({ text: "This model takes no clips: choose one that can transfer motion." });
  }
  const stills = files.filter((file) => !isFilm(file));
  if (stills.length) pictures.add(stills);
}
