// The twin of protocol.py for peers that run in Node: same requests, same answers.
// A runner is started as `node RUNNER.mjs CROPS N` in the folder that holds the peer's node_modules.

import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const LABELS = ['angry', 'disgust', 'fear', 'happy', 'neutral', 'sad', 'surprise'];
const SIDE = 48;

/** `load` gives { predict, labels }; predict maps (n * 48 * 48) uint8 grey to n arrays of probabilities. */
export async function serve(load) {
  const crops = readFileSync(process.argv[2]);
  const count = Number(process.argv[3]);
  try {
    const { predict, labels } = await load();
    const take = (start, n) => crops.subarray(start * SIDE * SIDE, (start + n) * SIDE * SIDE);
    say({ first: inOrder((await predict(take(0, 1), 1))[0], labels) });
    for await (const line of createInterface({ input: process.stdin })) {
      const request = JSON.parse(line);
      const { batch } = request;
      if (request.op === 'score') {
        const rows = [];
        for (let start = 0; start < count; start += batch) {
          const n = Math.min(batch, count - start);
          for (const row of await predict(take(start, n), n)) rows.push(...inOrder(row, labels));
        }
        writeFileSync(request.output, new Uint8Array(Float32Array.from(rows).buffer));
        say({ done: count });
      } else {
        const seconds = [];
        for (let i = 0; i < request.repetitions; i += 1) {
          const start = (i * batch) % (count - batch + 1);
          const before = performance.now();
          await predict(take(start, batch), batch);
          seconds.push((performance.now() - before) / 1000);
        }
        say({ seconds });
      }
    }
  } catch (error) {
    console.error(error);
    say({ fault: String(error) });
  }
}

function inOrder(row, labels) {
  const kept = LABELS.map((label) => row[labels.indexOf(label)]);
  const sum = kept.reduce((a, b) => a + b, 0);
  return kept.map((value) => value / sum);
}

function say(answer) {
  process.stdout.write(`@peers ${JSON.stringify(answer)}\n`);
}
