// The photo page: pictures in, cards out.
import * as api from "./api.js";
import { openCamera } from "./snapshot.js";
import { announce, h } from "./dom.js";
import { Card } from "./card.js";
import { showSureness } from "./sureness.js";
import { analyzePrivately, followSwitch, isPrivate } from "./private.js";

const results = document.getElementById("results");
const drop = document.getElementById("drop");
const fileInput = document.getElementById("file");
const captureInput = document.getElementById("capture");
const limitBytes = Number(document.body.dataset.maxBytes) - 2000; // the form around the file needs some

api.models().then(showSureness, (error) => {
  document.getElementById("sure-body").replaceChildren(h("p", { class: "hint" }, error.message));
});

let queue = Promise.resolve(); // one picture after the other: the order on the page is the order of the files

/** Adds a card for each file at once and analyses them in turn. */
function add(files) {
  const cards = [...files].map((file) => ({ file, card: new Card(file, file.name || "pasted picture") }));
  for (const { card } of cards.toReversed()) results.prepend(card.element);
  cards[0]?.card.element.scrollIntoView({ behavior: motion(), block: "nearest" });
  for (const { file, card } of cards) queue = queue.then(() => analyse(file, card));
}

function motion() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
}

async function analyse(file, card) {
  if (!card.element.isConnected) return; // removed while it waited
  try {
    if (isPrivate()) return await analysePrivately(file, card);
    if (file.size > limitBytes) throw new api.ApiError(tooLarge(file), "too-large", 0);
    const models = await api.models();
    await card.loadPicture();
    for (const [place, model] of models.entries()) {
      card.show(place, model, await patiently(() => api.analyze(file, card.name, { model: model.name })), models);
    }
    announce(card.summary());
  } catch (error) {
    card.fail(error);
    announce(`${card.name}: ${error.message}`);
    if (!(error instanceof api.ApiError)) throw error;
  }
}

/** The same without the server: what the browser cannot read stays unread. */
async function analysePrivately(file, card) {
  await card.loadPicture();
  if (!card.bitmap) throw new api.ApiError(`${card.name}: this browser cannot read it, and private mode sends it nowhere else`, "unreadable-image", 0);
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  const result = await analyzePrivately(bitmap, "full");
  card.show(0, { name: "default", methods: [] }, result, [null]);
  announce(card.summary());
}

/** A busy service gets two more tries. */
async function patiently(ask, tries = 3) {
  for (let left = tries - 1; ; left -= 1) {
    try {
      return await ask();
    } catch (error) {
      if (left === 0 || !["busy", "rate-limited"].includes(error.kind)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1200));
    }
  }
}

function tooLarge(file) {
  const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
  return `This file has ${megabytes(file.size)}; up to ${megabytes(limitBytes)} are allowed. Save it smaller and try again.`;
}

followSwitch((on) => {
  document.getElementById("where").hidden = on;
});

document.getElementById("choose").addEventListener("click", () => fileInput.click());
for (const input of [fileInput, captureInput]) {
  input.addEventListener("change", () => {
    add(input.files);
    input.value = ""; // the same file can be chosen again
  });
}
document.getElementById("snap").addEventListener("click", async () => {
  const photo = await openCamera(() => captureInput.click());
  if (photo) add([photo]);
});

for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    drop.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  drop.classList.remove("over");
  if (!event.dataTransfer?.files.length) return;
  event.preventDefault();
  add(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) add(event.clipboardData.files);
});

const sampleProblem = document.getElementById("sample-problem");
for (const button of document.querySelectorAll("[data-sample]")) {
  button.addEventListener("click", async () => {
    sampleProblem.hidden = true;
    try {
      const response = await fetch(button.dataset.sample);
      if (!response.ok) throw new TypeError(`status ${response.status}`);
      const blob = await response.blob();
      add([new File([blob], button.dataset.name, { type: blob.type })]);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      sampleProblem.hidden = false;
    }
  });
}
