// The expression network: crops in, calibrated probabilities out, as src/mien/preprocess.py and runtime/predictor.py have it.
import { grey } from "./pixels.js";

/** Planar floats (N, C, H, W) of crops of the network's size: without colour, normalised as `input` says. */
export function networkInput(crops, { size_hw: [height, width], channels, mean, std }) {
  const count = height * width;
  const values = new Float32Array(crops.length * channels * count);
  for (const [index, crop] of crops.entries()) {
    const luma = grey(crop);
    for (let channel = 0; channel < channels; channel += 1) {
      const from = (index * channels + channel) * count;
      const [scale, shift] = [1 / (255 * std[channel]), mean[channel] / std[channel]];
      for (let pixel = 0; pixel < count; pixel += 1) values[from + pixel] = luma[pixel] * scale - shift;
    }
  }
  return values;
}

/** Softmax of logits / temperature. */
export function softmax(logits, temperature) {
  const top = Math.max(...logits);
  const grown = Array.from(logits, (logit) => Math.exp((logit - top) / temperature));
  const sum = grown.reduce((total, value) => total + value, 0);
  return grown.map((value) => value / sum);
}

/**
 * CenterFace's file declares an input of 10 x 3 x 32 x 32, though the network takes any size, and ONNX Runtime insists on
 * what is declared. Each dim_value (tag 0x08 and one byte) becomes an empty dim_param (0x12 0x00), which means "any".
 */
export function freeInputSize(bytes) {
  const declared = [0x0a, 2, 0x08, 10, 0x0a, 2, 0x08, 3, 0x0a, 2, 0x08, 32, 0x0a, 2, 0x08, 32];
  const places = [];
  for (let from = bytes.indexOf(0x0a); from !== -1; from = bytes.indexOf(0x0a, from + 1)) {
    if (declared.every((byte, k) => bytes[from + k] === byte)) places.push(from);
  }
  if (places.length !== 1) throw new Error("the detector's file is not the one that this page knows");
  for (const dimension of [0, 8, 12]) bytes.set([0x12, 0], places[0] + dimension + 2);
  return bytes;
}
