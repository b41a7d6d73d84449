// `@vladmandic/human`: its `emotion` network on TensorFlow.js's WASM backend, with the preprocessing of its
// src/gear/emotion.ts. The class Human looks at one face at a time, behind its own detector; here the network gets whole batches.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { serve } from './protocol.mjs';

const require = createRequire(join(process.cwd(), 'index.js'));
const MODELS = join(process.cwd(), 'node_modules/@vladmandic/human/models');

async function load() {
  const tf = require('@tensorflow/tfjs');
  const wasm = require('@tensorflow/tfjs-backend-wasm');
  wasm.setWasmPaths(join(process.cwd(), 'node_modules/@tensorflow/tfjs-backend-wasm/dist/'));
  await tf.setBackend('wasm');
  const model = JSON.parse(readFileSync(join(MODELS, 'emotion.json')));
  const weights = readFileSync(join(MODELS, 'emotion.bin'));
  const network = await tf.loadGraphModel({
    load: async () => ({
      modelTopology: model.modelTopology,
      weightSpecs: model.weightsManifest.flatMap((group) => group.weights),
      weightData: weights.buffer.slice(weights.byteOffset, weights.byteOffset + weights.byteLength),
      signature: model.signature,
      format: model.format,
    }),
  });
  const [, height, width] = network.inputs[0].shape;

  async function predict(crops, n) {
    const output = tf.tidy(() => {
      const grey = tf.div(tf.tensor4d(Float32Array.from(crops), [n, 48, 48, 1]), 255);
      const resized = tf.image.resizeBilinear(grey, [height, width], false);
      return network.execute(tf.mul(tf.sub(resized, 0.5), 2));
    });
    const rows = await output.array();
    output.dispose();
    return rows;
  }
  return { predict, labels: ['angry', 'disgust', 'fear', 'happy', 'sad', 'surprise', 'neutral'] };
}

await serve(load);
