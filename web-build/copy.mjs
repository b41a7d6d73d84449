// Puts the two files of onnxruntime-web that private mode needs where the service finds them and git ignores them.
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";

// CPU only, SIMD: the others bring a GPU's code too. The page unpacks the second: 14 MB would be a third of mien's wheel.
const FILES = { "ort.wasm.bundle.min.mjs": false, "ort-wasm-simd-threaded.wasm": true };
const source = new URL("node_modules/onnxruntime-web/dist/", import.meta.url);
const target = new URL("../src/mien/web/static/vendor/onnxruntime-web/", import.meta.url);

await mkdir(target, { recursive: true });
for (const [name, packed] of Object.entries(FILES)) {
  const data = await readFile(new URL(name, source));
  const place = new URL(packed ? `${name}.gzip` : name, target);
  const partial = new URL(`${place.href}.partial`);
  await writeFile(partial, packed ? gzipSync(data, { level: 9 }) : data);
  await rename(partial, place);
  console.log(place.pathname);
}
