// How fit a face is for recognition, as src/mien/faces/quality.py measures it.
import { grey, resize } from "./pixels.js";

const BLUR_SIDE_PX = 48;
const KERNEL_PX = 5;
const [LEFT_EYE, RIGHT_EYE, NOSE, LEFT_MOUTH, RIGHT_MOUTH] = [0, 1, 2, 3, 4]; // as the viewer sees them

/** {size_px, blur, tilt_deg, turn_ratio} of a face: its box and landmarks in the picture, its aligned crop. */
export function assess(box, points, crop) {
  return {
    size_px: rounded(Math.min(box[2] - box[0], box[3] - box[1]), 1),
    blur: rounded(blur(crop), 3),
    tilt_deg: rounded((Math.atan2(...across(points).toReversed()) * 180) / Math.PI, 1),
    turn_ratio: rounded(turnRatio(points), 3),
  };
}

export function rounded(value, digits) {
  return Number(value.toFixed(digits));
}

/** Crete et al., 2007: how little a further blur changes the crop; 0 all detail goes, 1 none was left. */
function blur(crop) {
  const larger = Math.max(crop.width, crop.height) > BLUR_SIDE_PX;
  const small = larger ? resize(crop, BLUR_SIDE_PX, BLUR_SIDE_PX) : crop;
  const { width, height } = small;
  const luma = grey(small);
  const rows = Array.from({ length: height }, (_, y) => Array.from(luma.subarray(y * width, (y + 1) * width)));
  const columns = Array.from({ length: width }, (_, x) => rows.map((row) => row[x]));
  return Math.max(blurAlong(rows), blurAlong(columns));
}

function blurAlong(lines) {
  let [variation, lost] = [0, 0];
  const reach = Math.floor(KERNEL_PX / 2);
  for (const line of lines) {
    const blurred = line.map((_, place) => boxMean(line, place, reach));
    for (let place = reach; place < line.length - 1 - reach; place += 1) {
      const before = Math.abs(line[place + 1] - line[place]);
      const after = Math.abs(blurred[place + 1] - blurred[place]);
      variation += before;
      lost += Math.max(before - after, 0);
    }
  }
  return variation === 0 ? 1 : 1 - lost / variation;
}

/** Mean around `place`; beyond the ends the line is mirrored without repeating its end. */
function boxMean(line, place, reach) {
  const last = line.length - 1;
  let sum = 0;
  for (let k = place - reach; k <= place + reach; k += 1) sum += line[k < 0 ? -k : k > last ? 2 * last - k : k];
  return sum / (2 * reach + 1);
}

function turnRatio(points) {
  const [x, y] = across(points);
  const length = Math.hypot(x, y);
  if (length === 0) return 0;
  const along = (from, to) => ((to[0] - from[0]) * x + (to[1] - from[1]) * y) / length;
  const halfEyes = along(points[LEFT_EYE], points[RIGHT_EYE]) / 2;
  if (halfEyes <= 0) return 0;
  const middle = [0, 1].map((k) => (points[LEFT_EYE][k] + points[RIGHT_EYE][k]) / 2);
  return Math.min(Math.max(along(middle, points[NOSE]) / halfEyes, -1), 1);
}

function across(points) {
  return [0, 1].map((k) => points[RIGHT_EYE][k] - points[LEFT_EYE][k] + points[RIGHT_MOUTH][k] - points[LEFT_MOUTH][k]);
}
