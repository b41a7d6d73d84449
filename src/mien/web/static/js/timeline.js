// The last 30 seconds of one face as stacked bands, and all that was measured as CSV.
import { resolvedColour } from "./emotions.js";

export const SPAN_S = 30;
const GAP_S = 2.5; // longer without the face is shown as a gap,
const GAP_ANSWERS = 3; // unless answers come more slowly than that
const KEEP_ROWS = 36000; // of the CSV: half an hour at 20 frames a second; older ones go

export class Timeline {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.rows = []; // {timeS, id, box, values, raw}
    this.labels = [];
    this.everyS = 0; // time between answers, averaged over the last few
    this.lastS = null;
  }

  add(tracks, timeS) {
    if (this.lastS !== null) this.everyS += 0.3 * (timeS - this.lastS - this.everyS);
    this.lastS = timeS;
    for (const { id, box, values, labels, face } of tracks) {
      this.labels = labels;
      this.rows.push({ timeS, id, box, values, raw: labels.map((label) => face.probabilities[label]) });
    }
    if (this.rows.length > KEEP_ROWS) this.rows.splice(0, this.rows.length - KEEP_ROWS);
  }

  /** Draws the bands of face `id` up to `nowS`; gaps are left where it was not seen. */
  draw(id, nowS) {
    const { canvas } = this;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    const from = nowS - SPAN_S;
    const start = lowerBound(this.rows, from);
    const rows = this.rows.slice(start).filter((row) => row.id === id);
    const x = (timeS) => ((timeS - from) / SPAN_S) * canvas.width;
    const colours = this.labels.map(resolvedColour);
    const gapS = Math.max(GAP_S, GAP_ANSWERS * this.everyS);
    for (let index = 1; index < rows.length; index += 1) {
      const [before, row] = [rows[index - 1], rows[index]];
      if (row.timeS - before.timeS > gapS) continue;
      let [lowBefore, low] = [0, 0];
      for (const [k, colour] of colours.entries()) {
        const [highBefore, high] = [lowBefore + before.values[k], low + row.values[k]];
        const y = (share) => canvas.height * (1 - share);
        context.fillStyle = colour;
        context.beginPath();
        context.moveTo(x(before.timeS) - 0.5, y(lowBefore));
        context.lineTo(x(before.timeS) - 0.5, y(highBefore));
        context.lineTo(x(row.timeS) + 0.5, y(high));
        context.lineTo(x(row.timeS) + 0.5, y(low));
        context.fill();
        [lowBefore, low] = [highBefore, high];
      }
    }
  }

  /** One line a face and frame: time, number, box, smoothed and measured probabilities. */
  csv() {
    const head = ["time_s", "track", "left", "top", "right", "bottom", ...this.labels, ...this.labels.map((label) => `${label}_measured`)];
    const lines = this.rows.map(({ timeS, id, box, values, raw }) =>
      [timeS.toFixed(3), id, ...box.map((value) => value.toFixed(1)), ...[...values, ...raw].map((value) => value.toFixed(4))].join(","));
    return `${[head.join(","), ...lines].join("\n")}\n`;
  }
}

/** Index of the first row that is not older than `fromS`. */
function lowerBound(rows, fromS) {
  let [low, high] = [0, rows.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].timeS < fromS) low = middle + 1;
    else high = middle;
  }
  return low;
}
