// One picture on the page: the photo with its boxes, and an entry for each face.
import { colour, look, percent, sentence, sign } from "./emotions.js";
import { freshId, h } from "./dom.js";
import { Heatmaps } from "./heatmaps.js";

const CROP_MARGIN = 0.18; // of the box, around the face's picture

export class Card {
  /** @param {Blob} blob @param {string} name */
  constructor(blob, name) {
    this.blob = blob;
    this.name = name;
    this.bitmap = null; // the upright picture, where the browser can read it
    this.answers = []; // {model, result} in the order of the models
    const title = freshId("card");
    this.photo = h("div", { class: "photo waiting" });
    this.faces = h("div", { class: "faces" }, skeleton());
    const remove = h("button", { type: "button", class: "icon-button", "aria-label": `Remove ${name}`, onclick: () => this.remove() }, cross());
    this.note = h("p", { class: "card-note" }, "Looking for faces …");
    this.element = h("article", { class: "card", "aria-labelledby": title, "aria-busy": "true" },
      h("header", { class: "card-head" }, h("div", {}, h("h2", { id: title }, name), this.note), remove),
      h("div", { class: "card-body" }, this.photo, this.faces));
  }

  /** Decodes the picture for the page; formats that only the server reads get a sign in its place. */
  async loadPicture() {
    try {
      this.bitmap = await createImageBitmap(this.blob);
    } catch {
      return; // the server's word on the file counts
    }
    const url = URL.createObjectURL(this.blob);
    const image = h("img", { src: url, alt: `Photo: ${this.name}`, width: this.bitmap.width, height: this.bitmap.height });
    this.photo.style.setProperty("--ratio", String(this.bitmap.width / this.bitmap.height));
    this.photo.replaceChildren(image);
    this.release = () => URL.revokeObjectURL(url);
  }

  /** Shows the result of the model at `place` of `models`. */
  show(place, model, result, models) {
    this.answers[place] = { model, result };
    if (place === 0) this.showBoxes(result);
    this.note.textContent = this.summary();
    if (place + 1 < models.length) return;
    this.element.setAttribute("aria-busy", "false");
    const faces = this.answers[0].result.faces;
    this.faces.replaceChildren(...(faces.length ? faces.map((_, index) => this.entry(index)) : [noFace()]));
    if (this.wanted !== undefined) this.goTo(this.wanted); // a box was pressed before the last model had answered
  }

  /** Says what went wrong. */
  fail(error) {
    this.element.setAttribute("aria-busy", "false");
    this.element.classList.add("failed");
    this.note.textContent = "Not analysed";
    this.photo.classList.remove("waiting");
    if (!this.bitmap) this.photo.remove();
    const words = error.kind === "unreadable-image" ? unreadable(error.message, this.name) : error.message;
    this.faces.replaceChildren(h("p", { class: "notice", role: "alert" }, words));
  }

  /** One sentence about the picture. */
  summary() {
    const faces = this.answers[0]?.result.faces ?? [];
    const many = faces.length === Number(document.body.dataset.maxFaces);
    if (faces.length === 0) return "No face found";
    const count = faces.length === 1 ? "1 face" : `${faces.length} faces`;
    return many ? `The ${faces.length} surest faces; there may be more` : count;
  }

  remove() {
    this.release?.();
    const next = this.element.nextElementSibling?.querySelector(".icon-button") ?? document.getElementById("choose");
    this.element.remove();
    next.focus();
  }

  showBoxes(result) {
    this.photo.classList.remove("waiting");
    if (!this.bitmap) {
      this.photo.style.setProperty("--ratio", String(result.width / result.height));
      this.photo.append(h("p", { class: "unseen" }, "Your browser cannot show this format. The analysis is not affected."));
    }
    for (const [index, face] of result.faces.entries()) {
      const [left, top, right, bottom] = face.box_xyxy;
      const number = result.faces.length > 1 ? h("span", { class: "box-number", "aria-hidden": "true" }, index + 1) : null;
      this.photo.append(h("button", {
        type: "button", class: face.uncertain ? "box uncertain" : "box",
        "aria-label": `Face ${index + 1}: ${sentence(face)}`,
        "--left": left / result.width, "--top": top / result.height,
        "--width": (right - left) / result.width, "--height": (bottom - top) / result.height,
        "--colour": colour(face.emotion), onclick: () => this.goTo(index),
      }, number));
    }
  }

  goTo(index) {
    const entry = this.faces.children[index];
    if (!entry?.matches(".face")) {
      this.wanted = index; // what is there stands for a face that is not known yet
      return;
    }
    this.wanted = undefined;
    entry.scrollIntoView({ behavior: "smooth", block: "nearest" });
    entry.querySelector("button").focus({ preventScroll: true });
    entry.classList.add("lit");
    setTimeout(() => entry.classList.remove("lit"), 1200);
  }

  /** The entry of one face: its picture, words, bars for each model, heatmaps on demand. */
  entry(index) {
    const faces = this.answers.map(({ result }) => result.faces[index]);
    const [face] = faces;
    const several = this.answers.length > 1;
    const maps = h("div", { class: "maps", hidden: true });
    const more = h("button", { type: "button", class: "button quiet", "aria-expanded": "false" }, "Show what it looked at");
    let heatmaps = null;
    more.addEventListener("click", () => {
      heatmaps ??= new Heatmaps(maps, { blob: this.blob, name: this.name, index, answers: this.answers });
      maps.hidden = !maps.hidden;
      more.setAttribute("aria-expanded", String(!maps.hidden));
      more.textContent = maps.hidden ? "Show what it looked at" : "Hide what it looked at";
    });
    const heading = this.answers[0].result.faces.length > 1 ? `Face ${index + 1}` : "The face";
    return h("section", { class: "face", role: "group", "aria-label": `${heading}: ${sentence(face)}` },
      h("div", { class: "face-head" },
        this.crop(face),
        h("div", {}, h("p", { class: "face-number" }, heading), h("h3", {}, sign(face.emotion), verdict(face)), remarks(face))),
      h("div", { class: several ? "compare" : "" },
        ...this.answers.map(({ model }, place) => bars(faces[place], several ? model.name : null))),
      ...(this.answers[0].model.methods.length ? [more, maps] : []));
  }

  crop(face) {
    const canvas = h("canvas", { class: "crop", width: 144, height: 144, "aria-hidden": "true" });
    if (!this.bitmap) return canvas;
    const [left, top, right, bottom] = face.box_xyxy;
    const side = Math.max(right - left, bottom - top) * (1 + 2 * CROP_MARGIN);
    const x = (left + right - side) / 2;
    const y = (top + bottom - side) / 2;
    canvas.getContext("2d").drawImage(this.bitmap, x, y, side, side, 0, 0, canvas.width, canvas.height);
    return canvas;
  }
}

function verdict(face) {
  return h("span", {}, face.uncertain ? "Hard to tell" : `Looks ${look(face.emotion)}`);
}

/** What to bear in mind with this face, in words. */
function remarks(face) {
  const ranked = Object.entries(face.probabilities).sort((a, b) => b[1] - a[1]);
  const words = face.uncertain
    ? [`Uncertain: perhaps ${look(ranked[0][0])} (${percent(ranked[0][1])}), perhaps ${look(ranked[1][0])} (${percent(ranked[1][1])}).`]
    : [`${percent(face.confidence)} sure. Next: ${look(ranked[1][0])}, ${percent(ranked[1][1])}.`];
  if (face.quality.size_px < 40) words.push("The face is small.");
  if (Math.abs(face.quality.turn_ratio ?? 0) > 0.5) words.push("It is turned away.");
  if (face.quality.blur > 0.8) words.push("It is blurred.");
  return h("p", { class: "remarks" }, words.join(" "));
}

/** Bars as a list: each item reads "happy 87 %". */
function bars(face, title) {
  const rows = Object.entries(face.probabilities).map(([label, probability]) =>
    h("li", { class: label === face.emotion ? "bar top-one" : "bar", "--p": probability, "--colour": colour(label) },
      h("span", { class: "bar-label" }, label), h("span", { class: "bar-track" }, h("span", { class: "bar-fill" })),
      h("span", { class: "bar-value" }, percent(probability))));
  const list = h("ul", { class: "bars", "aria-label": title ? `Probabilities, model ${title}` : "Probabilities" }, ...rows);
  if (!title) return list;
  return h("div", {}, h("p", { class: "model-name" }, h("b", {}, title), ` ${face.uncertain ? "uncertain" : look(face.emotion)}`), list);
}

function noFace() {
  return h("div", { class: "notice" },
    h("p", {}, h("b", {}, "No face found in this picture.")),
    h("p", {}, "mien needs a face seen roughly from the front, upright, and at least 20 pixels wide. Try a closer or brighter photo."));
}

function unreadable(detail, name) {
  const reason = detail.startsWith(`${name}: `) ? detail.slice(name.length + 2) : detail;
  return `This file cannot be read as a picture: ${reason}.`;
}

function skeleton() {
  const lines = Array.from({ length: 7 }, () => h("span", { class: "bone" }));
  return h("div", { class: "skeleton", "aria-hidden": "true" }, ...lines);
}

function cross() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", "M3.500 3.500l9 9M12.500 3.500l-9 9");
  svg.append(path);
  return svg;
}
