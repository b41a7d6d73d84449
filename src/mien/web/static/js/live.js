// The camera page: one frame in flight, boxes that follow, smoothed bars, the last 30 seconds.
import * as api from "./api.js";
import { Tracker } from "./tracks.js";
import { Timeline } from "./timeline.js";
import { announce, h } from "./dom.js";
import { cameraWords } from "./snapshot.js";
import { colour, look, percent, resolvedColour, sign } from "./emotions.js";
import { overlayOf } from "./heatcolour.js";
import { analyzePrivately, followSwitch, isPrivate } from "./private.js";

const FRAME_WIDTH = 640; // of what is sent; detection looks at 320
const JPEG_QUALITY = 0.8;
const RATE_WINDOW = 20; // answers over which rate and latency are averaged
const WAIT_AFTER_FAULT_MS = 1000;
const SCROLL_S = 0.1;

const $ = (id) => document.getElementById(id);
const view = $("view");
const overlay = $("overlay");
const frame = new OffscreenCanvas(640, 480); // what is analysed
const stage = $("stage");
const people = $("people");
const problem = $("problem");
const buttons = { start: $("start"), freeze: $("freeze"), evidence: $("evidence"), save: $("save") };

let stream = null;
let opening = false; // the browser asks whether the page may
let frozen = false;
let tracker = new Tracker();
let selected = null; // number of the face whose timeline is shown
let recent = []; // {atS, latencyMs}
let tracks = [];
let threshold = 0; // of the answering model: a smoothed confidence under it is uncertain
let scrolledS = 0; // when the timeline was last drawn
let frames = 0; // answers since the camera was started
let explanation = null; // maps of the face that is shown, in evidence mode
const timeline = new Timeline($("timeline"));
const entries = new Map(); // track id -> its entry in the list
const startedAt = performance.now();
api.models().then(offerModels, (error) => show(error.message));

const WHERE = $("where").textContent;

const nowS = () => (performance.now() - startedAt) / 1000;

function offerModels(loaded) {
  $("model").replaceChildren(...loaded.map(({ name }) => h("option", { value: name }, name)));
  const offer = () => {
    $("model-row").hidden = loaded.length < 2 || isPrivate();
    offerEvidence(loaded);
  };
  $("model").addEventListener("change", offer);
  document.addEventListener("mien-private", offer);
  offer();
}

function offerEvidence(loaded) {
  const model = loaded.find(({ name }) => name === $("model").value) ?? loaded[0];
  buttons.evidence.hidden = !model.methods.includes("cam") || isPrivate(); // the server makes the maps
  if (buttons.evidence.hidden) press(buttons.evidence, false);
}

async function start() {
  if (stream) return stop();
  if (opening) return;
  opening = true;
  show("");
  try {
    if (!navigator.mediaDevices?.getUserMedia) throw new DOMException("", "NotFoundError");
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, height: { ideal: 480 } } });
  } catch (error) {
    return show(cameraWords(error));
  } finally {
    opening = false;
  }
  const mine = stream;
  mine.getVideoTracks()[0].addEventListener("ended", () => {
    if (stream !== mine) return;
    stop();
    show("The camera has gone. Connect it and start again.");
  });
  view.srcObject = mine;
  try {
    await view.play();
  } catch (error) {
    if (stream === mine) throw error; // else it was stopped meanwhile
  }
  if (stream !== mine) return;
  fit();
  stage.classList.add("on");
  buttons.start.textContent = "Stop camera";
  buttons.freeze.disabled = false;
  frozen = false;
  frames = 0;
  tracker = new Tracker();
  announce("The camera is on");
  loop(mine);
  requestAnimationFrame(scroll);
}

function stop() {
  for (const track of stream.getTracks()) track.stop();
  stream = null;
  view.srcObject = null;
  stage.classList.remove("on");
  buttons.start.textContent = "Start camera";
  buttons.freeze.disabled = true;
  press(buttons.freeze, false);
  tracks = [];
  list();
  paint();
  $("rate").textContent = $("latency").textContent = "–";
  announce("The camera is off");
}

/** Sends a frame, waits for its answer, sends the next: as fast as answers come, never faster. */
async function loop(mine) {
  while (stream === mine) {
    if (document.hidden || frozen) {
      recent = [];
      await change();
      continue;
    }
    try {
      await step();
      if (stream === mine) show(""); // else it was stopped meanwhile, and somebody may have said why
    } catch (error) {
      if (stream !== mine) return;
      show(error.message);
      if (!(error instanceof api.ApiError)) throw error;
      await new Promise((resolve) => setTimeout(resolve, WAIT_AFTER_FAULT_MS));
    }
  }
}

/** Resolves when the tab is shown, or the picture thawed or stopped. */
function change() {
  return new Promise((resolve) => {
    const done = () => {
      document.removeEventListener("visibilitychange", done);
      document.removeEventListener("mien-thaw", done);
      resolve();
    };
    document.addEventListener("visibilitychange", done);
    document.addEventListener("mien-thaw", done);
  });
}

async function step() {
  frame.getContext("2d").drawImage(view, 0, 0, frame.width, frame.height);
  const sentS = nowS();
  const result = isPrivate() ? await answeredHere() : await answeredByServer();
  if (!stream || frozen) return;
  frames += 1;
  stage.dataset.frames = frames;
  tracks = tracker.update(result.faces, sentS);
  threshold = result.model?.threshold ?? threshold;
  timeline.add(tracks, sentS);
  recent = [...recent, { atS: nowS(), latencyMs: 1000 * (nowS() - sentS) }].slice(-RATE_WINDOW);
  list();
  paint();
  const [first, last] = [recent[0], recent.at(-1)];
  if (recent.length > 1) $("rate").textContent = `${((recent.length - 1) / (last.atS - first.atS)).toFixed(1)} per second`;
  $("latency").textContent = `${Math.round(recent.reduce((sum, { latencyMs }) => sum + latencyMs, 0) / recent.length)} ms`;
  buttons.save.disabled = timeline.rows.length === 0;
}

async function answeredHere() {
  explanation = null;
  return analyzePrivately(frame.transferToImageBitmap(), "fast");
}

async function answeredByServer() {
  const blob = await frame.convertToBlob({ type: "image/jpeg", quality: JPEG_QUALITY });
  const options = { model: $("model").value || undefined, detection: "fast" };
  const evidence = buttons.evidence.getAttribute("aria-pressed") === "true" && tracks.length > 0;
  if (evidence) return explained(blob, options);
  explanation = null;
  return api.analyze(blob, "frame.jpg", options);
}

/** The result and the CAM of the surest face, for what it looks like. */
async function explained(blob, options) {
  try {
    const result = await api.explain(blob, "frame.jpg", { ...options, method: "cam" });
    const [found] = result.explanations;
    const map = found.maps.find(({ label }) => label === result.faces[found.face].emotion);
    explanation = { corners: found.corners, picture: overlayOf(map, { limit: found.limit, opacity: 0.9 }) };
    return result;
  } catch (error) {
    if (error.kind !== "no-such-face") throw error;
    explanation = null;
    return { faces: [] };
  }
}

/** Sizes of what is sent and drawn; a phone that is turned changes them. */
function fit() {
  if (view.videoWidth === 0) return;
  const width = Math.min(FRAME_WIDTH, view.videoWidth);
  const height = Math.round((view.videoHeight * width) / view.videoWidth);
  for (const canvas of [overlay, frame]) [canvas.width, canvas.height] = [width, height];
  stage.style.setProperty("--ratio", String(width / height));
}

/** Draws what is known over the picture: once an answer, since nothing changes in between. */
function paint() {
  const context = overlay.getContext("2d");
  context.clearRect(0, 0, overlay.width, overlay.height);
  if (!stream) return;
  if (explanation) drawEvidence(context);
  for (const track of tracks) drawTrack(context, track);
}

/** Moves the timeline on, ten times a second: more is work for a device that may run the model too. */
function scroll() {
  if (!stream) return;
  if (!frozen && nowS() - scrolledS >= SCROLL_S) {
    scrolledS = nowS();
    const shown = tracks.find(({ id }) => id === selected) ?? tracks[0];
    timeline.draw(shown?.id ?? selected, scrolledS);
  }
  requestAnimationFrame(scroll);
}

function drawEvidence(context) {
  const [origin, right, , below] = explanation.corners;
  const { picture } = explanation;
  context.save();
  context.transform(
    (right[0] - origin[0]) / picture.width, (right[1] - origin[1]) / picture.width,
    (below[0] - origin[0]) / picture.height, (below[1] - origin[1]) / picture.height, origin[0], origin[1]);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0);
  context.restore();
}

function drawTrack(context, { id, box, emotion, confidence }) {
  const uncertain = confidence < threshold;
  const [left, top, right, bottom] = box;
  context.lineWidth = 3;
  for (const [style, width] of [["rgb(0 0 0 / 55%)", 6], [resolvedColour(emotion), 3]]) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.setLineDash(uncertain ? [8, 6] : []);
    context.beginPath();
    context.roundRect(left, top, right - left, bottom - top, 8);
    context.stroke();
  }
  const text = `${id}  ${uncertain ? "hard to tell" : `${emotion} ${percent(confidence)}`}`;
  context.font = "600 15px system-ui, sans-serif";
  const width = context.measureText(text).width + 14;
  const y = Math.max(0, top - 26);
  context.fillStyle = "rgb(12 12 14 / 82%)";
  context.beginPath();
  context.roundRect(left - 2, y, width, 23, 6);
  context.fill();
  context.fillStyle = "#fff";
  context.fillText(text, left + 5, y + 16.5);
}

/** The faces beside the picture: made once, then only their numbers change. */
function list() {
  for (const [id, entry] of entries) {
    if (tracks.some((track) => track.id === id)) continue;
    entry.element.remove();
    entries.delete(id);
  }
  for (const track of tracks) {
    if (!entries.has(track.id)) {
      entries.set(track.id, new Entry(track));
      people.append(entries.get(track.id).element);
    }
    entries.get(track.id).update(track);
  }
  if (!tracks.some(({ id }) => id === selected)) selected = tracks[0]?.id ?? selected;
  for (const [id, entry] of entries) entry.mark(id === selected);
  $("nobody").hidden = tracks.length > 0;
  $("timeline-of").textContent = selected === null ? "" : `Face ${selected}`;
}

class Entry {
  constructor({ id, labels }) {
    this.words = h("span", {});
    this.sign = sign(labels[0]);
    this.bars = labels.map((label) => {
      const value = h("span", { class: "bar-value" });
      const element = h("li", { class: "bar", "--colour": colour(label) },
        h("span", { class: "bar-label" }, label), h("span", { class: "bar-track" }, h("span", { class: "bar-fill" })), value);
      return { element, value };
    });
    this.button = h("button", { type: "button", class: "face-select", "aria-pressed": "false", onclick: () => { selected = id; list(); } },
      h("span", { class: "face-number" }, `Face ${id}`), h("span", { class: "live-words" }, this.sign, this.words));
    this.element = h("li", { class: "live-face" }, this.button, h("ul", { class: "bars", "aria-label": `Probabilities of face ${id}` }, ...this.bars.map(({ element }) => element)));
  }

  update({ emotion, confidence, values, labels }) {
    const words = confidence < threshold ? "Hard to tell" : `Looks ${look(emotion)}`;
    if (this.words.textContent !== words) {
      this.words.textContent = words;
      const fresh = sign(emotion);
      this.sign.replaceWith(fresh);
      this.sign = fresh;
    }
    for (const [index, { element, value }] of this.bars.entries()) {
      element.style.setProperty("--p", values[index]);
      element.classList.toggle("top-one", labels[index] === emotion);
      value.textContent = percent(values[index]);
    }
  }

  mark(chosen) {
    this.button.setAttribute("aria-pressed", String(chosen));
  }
}

function press(button, on) {
  button.setAttribute("aria-pressed", String(on));
}

function show(words) {
  if (problem.textContent !== words) problem.textContent = words;
  problem.hidden = words === "";
}

followSwitch((on) => {
  $("where").textContent = on ? "Pictures, times and numbers stay in this tab." : WHERE;
  recent = [];
  document.dispatchEvent(new Event("mien-private"));
});
view.addEventListener("resize", fit);
buttons.start.addEventListener("click", start);
buttons.evidence.addEventListener("click", () => press(buttons.evidence, buttons.evidence.getAttribute("aria-pressed") !== "true"));
buttons.freeze.addEventListener("click", () => {
  frozen = !frozen;
  press(buttons.freeze, frozen);
  if (frozen) view.pause();
  else {
    view.play();
    document.dispatchEvent(new Event("mien-thaw"));
  }
});
buttons.save.addEventListener("click", () => {
  const url = URL.createObjectURL(new Blob([timeline.csv()], { type: "text/csv" }));
  h("a", { href: url, download: "mien-live.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
});
