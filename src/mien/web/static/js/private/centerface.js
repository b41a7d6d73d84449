// CenterFace around its network: views of the picture, output maps to faces, as src/mien/faces has it.
import { border, resize } from "./pixels.js";
import { iou } from "../tracks.js";

const STRIDE_PX = 4;
const MULTIPLE_PX = 32;
const MAPS = ["537", "538", "539", "540"]; // heat map, log size (h, w), offset (y, x), landmarks (y, x in box units)

/**
 * Faces {box, points, score} of a picture, best first. `run` maps planar floats and their height and width to the
 * network's output maps by name; `rules` are the detector's entry of the manifest.
 */
export async function detect(picture, run, rules, maxSidePx) {
  const found = [];
  for (const view of views(picture, rules, maxSidePx)) {
    for (const face of await detectOnce(view.picture, run, rules)) found.push(toPicture(face, view, picture));
  }
  const faces = suppress(found, rules.same_face_iou);
  const clear = faces.filter(({ score }) => score >= rules.score_threshold).length;
  return faces.slice(0, Math.max(clear, 1));
}

/** The picture at its own size (shrunk to a limit), then that one at half its size and so on, and with a border. */
export function views(picture, { thumbnail_px: thumbnailPx, border_px: borderPx }, maxSidePx) {
  let sidePx = Math.min(Math.max(picture.width, picture.height), maxSidePx);
  const largest = view(picture, sidePx, 0);
  const ofLargest = (longerSidePx, framePx) => {
    const { picture: image, scale } = view(largest.picture, longerSidePx, framePx);
    return { picture: image, scale: scale.map((factor, axis) => factor * largest.scale[axis]), borderPx: framePx };
  };
  const found = [ofLargest(thumbnailPx, borderPx)];
  for (; sidePx > thumbnailPx; sidePx = Math.floor(sidePx / 2)) found.push(ofLargest(sidePx, 0));
  return found;
}

function view(picture, longerSidePx, borderPx) {
  const ratio = longerSidePx / Math.max(picture.width, picture.height);
  const width = Math.max(1, roundHalfEven(picture.width * ratio));
  const height = Math.max(1, roundHalfEven(picture.height * ratio));
  const resized = resize(picture, width, height);
  const framed = borderPx ? border(resized, { left: borderPx, top: borderPx, right: borderPx, bottom: borderPx }) : resized;
  return { picture: framed, scale: [width / picture.width, height / picture.height], borderPx };
}

function roundHalfEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 === 1 ? rounded - 1 : rounded;
}

function toPicture({ box, points, score }, { scale, borderPx }, { width, height }) {
  const back = ([x, y]) => [(x - borderPx) / scale[0], (y - borderPx) / scale[1]];
  const [left, top] = back(box);
  const [right, bottom] = back(box.slice(2));
  const inside = (value, limit) => Math.min(Math.max(value, 0), limit);
  return {
    box: [inside(left, width), inside(top, height), inside(right, width), inside(bottom, height)],
    points: points.map(back),
    score,
  };
}

async function detectOnce(picture, run, rules) {
  const [right, bottom] = [missing(picture.width), missing(picture.height)];
  const padded = right || bottom ? border(picture, { left: 0, top: 0, right, bottom }) : picture;
  const maps = await run(planes(padded), padded.height, padded.width);
  return suppress(decode(maps, rules.score_threshold * rules.lone_ratio), rules.same_face_iou);
}

function missing(side) {
  return (MULTIPLE_PX - (side % MULTIPLE_PX)) % MULTIPLE_PX;
}

/** All red, then all green, then all blue values, in [0, 255]. */
function planes({ data, width, height }) {
  const count = width * height;
  const values = new Float32Array(3 * count);
  for (let pixel = 0, from = 0; pixel < count; pixel += 1, from += 3) {
    values[pixel] = data[from];
    values[pixel + count] = data[from + 1];
    values[pixel + 2 * count] = data[from + 2];
  }
  return values;
}

/** Faces in pixels of the network's input. */
function decode(maps, threshold) {
  const [heat, size, offset, landmarks] = MAPS.map((name) => maps[name].data);
  const [, , rows, columns] = maps[MAPS[0]].dims;
  const count = rows * columns;
  const faces = [];
  for (let place = 0; place < count; place += 1) {
    if (!(heat[place] > threshold)) continue;
    const height = Math.exp(size[place]) * STRIDE_PX;
    const width = Math.exp(size[count + place]) * STRIDE_PX;
    const middleY = (Math.floor(place / columns) + offset[place] + 0.5) * STRIDE_PX;
    const middleX = ((place % columns) + offset[count + place] + 0.5) * STRIDE_PX;
    // landmarks count from the corner of the box as it is cut at the picture's edge: so they were trained
    const top = Math.max(middleY - height / 2, 0);
    const left = Math.max(middleX - width / 2, 0);
    const points = [0, 1, 2, 3, 4].map((k) => [
      landmarks[(2 * k + 1) * count + place] * width + left,
      landmarks[2 * k * count + place] * height + top,
    ]);
    faces.push({ box: [left, top, left + width, top + height], points, score: heat[place] });
  }
  return faces;
}

/** Of boxes that overlap, only the best one stays; best first. */
export function suppress(faces, sameFaceIou) {
  const kept = [];
  const solid = faces.filter(({ box }) => box[2] > box[0] && box[3] > box[1]);
  for (const face of solid.sort((a, b) => b.score - a.score)) {
    if (kept.every((other) => iou(face.box, other.box) <= sameFaceIou)) kept.push(face);
  }
  return kept;
}
