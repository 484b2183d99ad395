// Talks with the server. Every request carries the token that came in the page's address.

const KEY = "i2v-token";
const LAST_WORDS = "the answer broke off";

export class Problem extends Error {
  constructor(message, details = {}, status = 0) {
    super(message);
    this.details = details;
    this.status = status;
  }
  /** The problem and its remedy, in one line. */
  get text() {
    const remedy = this.details["to fix"] ?? this.details["run first"] ?? this.details.reason;
    return remedy ? `${sentence(this.message)} ${sentence(remedy)}` : sentence(this.message);
  }
}

/** A newer question has taken the place of this one. */
export class Cancelled extends Error {}

let token = "";
token = takeToken();

export function hasToken() {
  return Boolean(token);
}

/** Take a token, or a whole address with one in it. */
export function setToken(text) {
  token = text.includes("token=") ? text.split("token=").pop().trim() : text.trim();
  remember();
}

export async function get(path) {
  return (await request(path)).json();
}

export async function file(path) {
  return (await request(path)).blob();
}

/** Send a file; returns what the server knows of it. */
export async function upload(path, blob, name) {
  const headers = { "content-type": "application/octet-stream", "x-name": encodeURIComponent(name.slice(0, 180)) };
  return (await request(path, { method: "POST", body: blob, headers })).json();
}

/**
 * Ask a question and take in the answer as it comes.
 * heard.start(answer) is called once, heard.frame(answer, video, index) for every frame.
 * Resolves to {id, start, videos, frames, fps, box, command}, pictures as bitmaps.
 */
export async function ask(path, question, { signal, start = () => {}, frame = () => {} } = {}) {
  const headers = { "content-type": "application/json" };
  const response = await request(path, { method: "POST", body: JSON.stringify(question), headers, signal });
  let answer = null;
  for await (const line of lines(response.body)) {
    if (signal?.aborted) throw new Cancelled();
    if (line.type === "start") {
      answer = {
        id: line.answer, start: await bitmap(line.start), frames: line.frames, fps: line.fps, box: line.box,
        command: line.command, hasArrow: line.has_arrow, videos: Array.from({ length: line.videos }, () => []),
        isDone: false,
      };
      if (signal?.aborted) throw new Cancelled();
      start(answer);
    } else if (line.type === "frame") {
      answer.videos[line.video][line.index] = await bitmap(line.png);
      if (signal?.aborted) throw new Cancelled();
      frame(answer, line.video, line.index);
    } else if (line.type === "done") {
      if (answer) answer.isDone = true;
      return answer;
    } else if (line.type === "cancelled") {
      throw new Cancelled();
    } else {
      throw new Problem(line.message, line.details);
    }
  }
  throw new Problem(LAST_WORDS, { "to fix": "ask again" });
}

export function decode(blob) {
  return createImageBitmap(blob);
}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(`/api${path}`, { ...options, headers: { ...options.headers, authorization: `Bearer ${token}` } });
  } catch (error) {
    if (error.name === "AbortError") throw new Cancelled();
    throw new Problem("the server does not answer", { "to fix": "is i2v serve still running?" });
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const told = body.error ?? { message: `the server answers with status ${response.status}` };
  throw new Problem(told.message, told.details, response.status);
}

async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      for (const part of parts) yield JSON.parse(part);
    }
  } catch (error) {
    if (error.name === "AbortError") throw new Cancelled();
    if (error instanceof TypeError) throw new Problem(LAST_WORDS, { "to fix": "ask again" });
    throw error;
  } finally {
    reader.cancel().catch(() => {});
  }
}

function bitmap(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: "image/png" }));
}

function sentence(text) {
  const plain = String(text).trim();
  const closed = /[.?!]$/.test(plain) ? plain : `${plain}.`;
  return closed[0].toUpperCase() + closed.slice(1);
}

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    token = given;
    remember();
    history.replaceState(null, "", location.pathname); // out of sight, and of the history
    return given;
  }
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

function remember() {
  try {
    sessionStorage.setItem(KEY, token);
  } catch {
    // no storage: it lasts until the page is loaded again
  }
}
