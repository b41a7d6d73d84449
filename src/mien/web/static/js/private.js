// Private mode: the default model inside this browser. The switch on both pages, and the engine behind it.
import { ApiError } from "./api.js";
import { announce } from "./dom.js";

const KEY = "mien-private";
const MAX_THREADS = 4;

/** The worker with its models; made once, on first use. */
class Engine {
  constructor(manifest) {
    this.manifest = manifest;
    this.waiting = new Map(); // id -> {resolve, reject}
    this.last = 0;
    this.worker = new Worker(manifest.worker, { type: "module" });
    this.started = this.expect("ready");
    this.worker.addEventListener("message", ({ data: { id, result, error } }) => {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      if (error === undefined) resolve(result);
      else reject(new ApiError(`The analysis in this browser failed: ${error}.`, "private", 0));
    });
    this.worker.addEventListener("error", (event) => {
      const fault = new ApiError(`Private mode cannot run in this browser${event.message ? `: ${event.message}` : ""}.`, "private", 0);
      for (const { reject } of this.waiting.values()) reject(fault);
      this.waiting.clear();
    });
  }

  expect(id) {
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }

  ask(task, options, transfer) {
    this.last += 1;
    this.worker.postMessage({ id: this.last, task, ...options }, transfer);
    return this.expect(this.last);
  }

  /** Fetches everything, then hands it to the worker, which has no connection of its own. */
  async load(onProgress) {
    const { manifest } = this;
    const entries = [["wasm", manifest.runtime], ["detector", manifest.detector], ["model", manifest.model]];
    const all = entries.reduce((sum, [, { bytes }]) => sum + bytes, 0);
    let done = 0;
    const files = {};
    for (const [name, { url }] of entries) {
      files[name] = await download(url, (bytes) => {
        done += bytes;
        onProgress(done, all);
      });
    }
    await this.started;
    const threads = crossOriginIsolated ? Math.min(MAX_THREADS, Math.max(1, Math.floor(navigator.hardwareConcurrency / 2))) : 1;
    await this.ask("load", { manifest, files, threads }, Object.values(files));
  }

  /** The result of a bitmap, which is used up: {width, height, faces, model}, as the API answers. */
  analyze(bitmap, detection) {
    return this.ask("analyze", { bitmap, detection }, [bitmap]);
  }
}

async function download(url, onBytes) {
  const response = await fetch(url);
  if (!response.ok) throw new ApiError(`Private mode could not be loaded: the server answered ${response.status}.`, "private", response.status);
  const counted = response.body.pipeThrough(
    new TransformStream({
      transform(chunk, controller) {
        onBytes(chunk.length);
        controller.enqueue(chunk);
      },
    }),
  );
  const whole = url.endsWith(".gzip") ? counted.pipeThrough(new DecompressionStream("gzip")) : counted;
  return new Response(whole).arrayBuffer();
}

const box = document.getElementById("private");
const words = document.getElementById("private-words");
let engine = null; // promise of a loaded Engine
let failed = false;

/** Whether pictures are to be analysed in this browser. Once chosen it stays so, on both pages, until it is switched off. */
export function isPrivate() {
  return box?.checked ?? false;
}

/** Analyses a bitmap in this browser; waits for the models where they are still being loaded. */
export async function analyzePrivately(bitmap, detection) {
  return (await loaded()).analyze(bitmap, detection);
}

function loaded() {
  engine ??= start().catch((error) => {
    failed = true; // until the switch is used again: whoever analyses must not fetch it all every second
    const fault = error instanceof ApiError ? error : new ApiError(`Private mode cannot start: ${error.message}.`, "private", 0);
    say(fault.message);
    announce(fault.message);
    throw fault;
  });
  return engine;
}

async function start() {
  const manifest = await fetchManifest();
  const made = new Engine(manifest);
  await made.load((done, all) => say(`Loading what it needs, once: ${megabytes(done)} of ${megabytes(all)}`));
  say(box.dataset.ready);
  announce("Private mode is ready");
  return made;
}

async function fetchManifest() {
  try {
    return await (await fetch(box.dataset.manifest)).json();
  } catch {
    throw new ApiError("Private mode could not be loaded: the server cannot be reached.", "unreachable", 0);
  }
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}

function say(text) {
  if (isPrivate()) words.textContent = text;
}

/** Follows the switch: `changed` hears of every change, and of the choice that was made on an earlier visit. */
export function followSwitch(changed) {
  if (!box) return;
  const apply = () => {
    document.body.classList.toggle("is-private", box.checked);
    words.textContent = box.checked ? "" : box.dataset.off;
    if (failed) [engine, failed] = [null, false];
    if (box.checked) {
      engine?.then(() => say(box.dataset.ready), () => {});
      loaded().catch(() => {}); // said in the page; whoever analyses hears of it again
    }
    changed(box.checked);
  };
  box.checked = remembered();
  box.addEventListener("change", () => {
    remember(box.checked);
    apply();
  });
  apply();
}

function remembered() {
  try {
    return localStorage.getItem(KEY) === "on";
  } catch {
    return false; // storage is blocked: the choice lasts until the page is left
  }
}

function remember(on) {
  try {
    if (on) localStorage.setItem(KEY, "on");
    else localStorage.removeItem(KEY);
  } catch {
    // as above
  }
}
