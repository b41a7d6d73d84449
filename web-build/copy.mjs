// Puts the two files of onnxruntime-web that private mode needs where the service finds them and git ignores them.
import { copyFile, mkdir, rename } from "node:fs/promises";

const FILES = ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"]; // CPU only, SIMD; the others bring a GPU's code too
const source = new URL("node_modules/onnxruntime-web/dist/", import.meta.url);
const target = new URL("../src/mien/web/static/vendor/onnxruntime-web/", import.meta.url);

await mkdir(target, { recursive: true });
for (const name of FILES) {
  const partial = new URL(`${name}.partial`, target);
  await copyFile(new URL(name, source), partial);
  await rename(partial, new URL(name, target));
  console.log(`${target.pathname}${name}`);
}
