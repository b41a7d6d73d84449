// `@vladmandic/face-api`: its face expression network on TensorFlow.js's WASM backend, through its own batch call.

import { createRequire } from 'node:module';
import { join } from 'node:path';
import { serve } from './protocol.mjs';

const require = createRequire(join(process.cwd(), 'index.js'));
const PACKAGE = join(process.cwd(), 'node_modules/@vladmandic/face-api');
const LABELS = ['angry', 'disgust', 'fear', 'happy', 'neutral', 'sad', 'surprise'];
const EXPRESSIONS = ['angry', 'disgusted', 'fearful', 'happy', 'neutral', 'sad', 'surprised']; // as face-api spells them

async function load() {
  const wasm = require('@tensorflow/tfjs-backend-wasm');
  wasm.setWasmPaths(join(process.cwd(), 'node_modules/@tensorflow/tfjs-backend-wasm/dist/'));
  const faceapi = require(join(PACKAGE, 'dist/face-api.node-wasm.js'));
  const { tf } = faceapi;
  await tf.setBackend('wasm');
  await tf.ready();
  await faceapi.nets.faceExpressionNet.loadFromDisk(join(PACKAGE, 'model'));

  async function predict(crops, n) {
    const all = tf.tidy(() => tf.tile(tf.tensor4d(Float32Array.from(crops), [n, 48, 48, 1]), [1, 1, 1, 3]));
    const faces = tf.unstack(all);
    const found = await faceapi.nets.faceExpressionNet.predictExpressions(faces);
    tf.dispose([all, ...faces]);
    return found.map((one) => EXPRESSIONS.map((name) => one[name]));
  }
  return { predict, labels: LABELS };
}

await serve(load);
