// What the model looked at: maps over the crop that the network saw, for any emotion, one method or the other.
import * as api from "./api.js";
import { colourAt, coverAt, drawMap } from "./heatcolour.js";
import { freshId, h } from "./dom.js";
import { look, percent } from "./emotions.js";

const METHODS = {
  occlusion: {
    title: "Occlusion",
    words: "Parts of the face were covered in turn. Yellow: covering it lowers the probability, so it speaks for the expression. Blue: it speaks against.",
  },
  cam: {
    title: "CAM",
    words: "The network's own evidence. Yellow: this place raises the score of the expression. Blue: it lowers it.",
  },
};
const SIDE = 288; // CSS pixels of a map; drawn at twice as many

export class Heatmaps {
  /** Fills `element` with controls and a map for each model. */
  constructor(element, { blob, name, index, answers }) {
    Object.assign(this, { element, blob, name, index, answers });
    this.asked = new Map(); // "model method" -> promise of the explanation
    const labels = answers[0].model.labels;
    const methods = answers[0].model.methods.filter((method) => method in METHODS);
    this.chosen = { method: methods[0], label: answers[0].result.faces[index].emotion, opacity: 0.85 };
    this.words = h("p", { class: "hint" });
    this.panes = answers.map(({ model }) => new Pane(model, answers.length > 1));
    element.append(
      h("div", { class: "map-controls" },
        methods.length > 1 ? choice("Method", methods, (method) => METHODS[method].title, this.chosen.method, (method) => this.set({ method })) : null,
        choice("Evidence for", labels, (label) => label, this.chosen.label, (label) => this.set({ label })),
        this.slider()),
      h("div", { class: "panes" }, ...this.panes.map((pane) => pane.element)),
      legend(), this.words);
    this.set({});
  }

  slider() {
    const id = freshId("opacity");
    const input = h("input", { type: "range", id, min: 0, max: 100, value: this.chosen.opacity * 100, step: 1 });
    input.addEventListener("input", () => {
      this.chosen.opacity = Number(input.value) / 100;
      for (const pane of this.panes) pane.draw(this.chosen);
    });
    return h("div", { class: "slider" }, h("label", { for: id }, "Opacity"), input);
  }

  /** Applies a choice and shows its maps; each model is asked once a method, for all emotions together. */
  async set(change) {
    Object.assign(this.chosen, change);
    const { height, width } = this.answers[0].model.input;
    this.words.textContent = `${METHODS[this.chosen.method].words} The network sees the face in ${width} × ${height} pixels, as here.`;
    await Promise.all(this.answers.map(async ({ model }, place) => {
      const pane = this.panes[place];
      if (!model.methods.includes(this.chosen.method)) return pane.refuse(`${model.name} has no class activation map.`);
      pane.wait();
      try {
        pane.explanation = await this.explanation(model);
        pane.draw(this.chosen);
      } catch (error) {
        pane.refuse(error.message);
      }
    }));
  }

  explanation(model) {
    const { method } = this.chosen;
    const key = `${model.name} ${method}`;
    if (!this.asked.has(key)) {
      const asked = api.explain(this.blob, this.name, { model: model.name, method, faces: [this.index] });
      this.asked.set(key, asked.then(async (answer) => {
        const [found] = answer.explanations;
        return { ...found, image: await loadImage(found.crop) };
      }));
      this.asked.get(key).catch(() => this.asked.delete(key)); // the next click asks again
    }
    return this.asked.get(key);
  }
}

/** The map of one model. */
class Pane {
  constructor(model, named) {
    this.canvas = h("canvas", { class: "map", width: 2 * SIDE, height: 2 * SIDE, role: "img", "aria-label": "Heatmap" });
    this.caption = h("figcaption", {}, "…");
    this.problem = h("p", { class: "notice", hidden: true });
    this.element = h("figure", { class: "pane" }, named ? h("p", { class: "model-name" }, h("b", {}, model.name)) : null, this.canvas, this.problem, this.caption);
  }

  wait() {
    this.canvas.classList.add("waiting");
  }

  refuse(words) {
    this.problem.textContent = words;
    this.problem.hidden = false;
    this.canvas.hidden = true;
    this.caption.textContent = "";
  }

  draw({ label, opacity }) {
    const map = this.explanation?.maps.find((one) => one.label === label);
    if (!map) return;
    this.problem.hidden = true;
    this.canvas.hidden = false;
    this.canvas.classList.remove("waiting");
    const [height, width] = map.shape_hw;
    this.canvas.height = Math.round((this.canvas.width * height) / width);
    drawMap(this.canvas.getContext("2d"), this.explanation.image, map, { limit: this.explanation.limit, opacity });
    this.caption.textContent = `Evidence for “${look(label)}”, ${percent(map.probability)}`;
    this.canvas.setAttribute("aria-label", `Heatmap: evidence for ${look(label)}, ${strongest(map)}`);
  }
}

/** Where the map is strongest, in words, for those who do not see it. */
function strongest(map) {
  const [height, width] = map.shape_hw;
  const thirds = Array.from({ length: 9 }, () => 0);
  map.values.forEach((row, y) => row.forEach((value, x) => {
    thirds[3 * Math.floor((3 * y) / height) + Math.floor((3 * x) / width)] += Math.max(0, value);
  }));
  const best = thirds.indexOf(Math.max(...thirds));
  const vertical = ["brows and forehead", "eyes and nose", "mouth and chin"][Math.floor(best / 3)];
  return `strongest around ${vertical}, ${["left", "middle", "right"][best % 3]} as seen`;
}

function choice(title, values, text, chosen, onchange) {
  const group = freshId("choice");
  const options = values.map((value) => {
    const input = h("input", { type: "radio", name: group, value, checked: value === chosen, onchange: () => onchange(value) });
    return h("label", { class: "chip" }, input, h("span", {}, text(value)));
  });
  return h("fieldset", { class: "choice" }, h("legend", {}, title), h("div", { class: "chips" }, ...options));
}

function legend() {
  const canvas = h("canvas", { class: "legend-strip", width: 256, height: 1, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  for (let x = 0; x < 256; x += 1) {
    const value = (2 * x) / 255 - 1;
    const cover = coverAt(value);
    const mixed = colourAt(value).map((part) => Math.round(128 * (1 - cover) + part * cover));
    context.fillStyle = `rgb(${mixed.join(" ")})`;
    context.fillRect(x, 0, 1, 1);
  }
  return h("div", { class: "legend" }, h("span", {}, "against"), canvas, h("span", {}, "for"));
}

function loadImage(source) {
  const image = new Image();
  image.src = source;
  return image.decode().then(() => image);
}
