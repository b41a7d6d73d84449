// Private mode's own thread: pictures in, results out. Its Content Security Policy allows it no connection at all, so what
// it is shown cannot leave it but to the page: the page fetches the files and hands them over.
import * as ort from "../../vendor/onnxruntime-web/ort.wasm.bundle.min.mjs";
import { crop, similarity } from "./align.js";
import { detect } from "./centerface.js";
import { freeInputSize, networkInput, softmax } from "./network.js";
import { fromImageData } from "./pixels.js";
import { assess, rounded } from "./quality.js";

let engine = null; // {manifest, detector, model}

/** Takes {wasm, detector, model} as ArrayBuffers, and the manifest that describes them. */
async function load({ manifest, files, threads }) {
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmBinary = files.wasm;
  const options = { executionProviders: ["wasm"], logSeverityLevel: 3 }; // or it warns that the declared sizes differ
  const detector = await ort.InferenceSession.create(freeInputSize(new Uint8Array(files.detector)), options);
  const model = await ort.InferenceSession.create(new Uint8Array(files.model), options);
  engine = { manifest, detector, model };
  await analyze({ bitmap: grey(), detection: "fast" }); // the first run is slower
}

function grey() {
  const canvas = new OffscreenCanvas(320, 240);
  const context = canvas.getContext("2d");
  context.fillStyle = "#808080";
  context.fillRect(0, 0, canvas.width, canvas.height);
  return canvas.transferToImageBitmap();
}

/** The result of one picture, in the form of the API. */
async function analyze({ bitmap, detection }) {
  const { manifest, detector } = engine;
  const picture = pixelsOf(bitmap);
  const run = (values, height, width) =>
    detector.run({ "input.1": new ort.Tensor("float32", values, [1, 3, height, width]) });
  const found = await detect(picture, run, manifest.detector, manifest.detector.max_side_px[detection]);
  const seen = found.slice(0, manifest.max_faces);
  return { width: picture.width, height: picture.height, faces: await describe(picture, seen), model: manifest.model.provenance };
}

function pixelsOf(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return fromImageData(context.getImageData(0, 0, canvas.width, canvas.height));
}

async function describe(picture, found) {
  if (found.length === 0) return [];
  const { manifest: { model: about }, model } = engine;
  const [height, width] = about.input.size_hw;
  const crops = found.map(({ points }) => crop(picture, similarity(points, about.landmarks, width, height), width, height));
  const images = new ort.Tensor("float32", networkInput(crops, about.input), [crops.length, about.input.channels, height, width]);
  const { logits } = await model.run({ images }, ["logits"]);
  const count = about.labels.length;
  return found.map((face, index) => {
    const probabilities = softmax(logits.data.subarray(index * count, (index + 1) * count), about.temperature);
    return faceOf(face, probabilities, crops[index], about);
  });
}

function faceOf({ box, points, score }, probabilities, image, { labels, threshold }) {
  const confidence = Math.max(...probabilities);
  return {
    box_xyxy: box.map((value) => rounded(value, 1)),
    landmarks: points.map((point) => point.map((value) => rounded(value, 1))),
    score: rounded(score, 4),
    emotion: labels[probabilities.indexOf(confidence)],
    confidence: rounded(confidence, 4),
    probabilities: Object.fromEntries(labels.map((label, k) => [label, rounded(probabilities[k], 4)])),
    uncertain: confidence < threshold,
    quality: assess(box, points, image),
  };
}

const tasks = { load, analyze };

self.addEventListener("message", async ({ data: { id, task, ...options } }) => {
  try {
    self.postMessage({ id, result: await tasks[task](options) });
  } catch (error) {
    self.postMessage({ id, error: String(error.message ?? error) });
  }
});
self.postMessage({ id: "ready" });
