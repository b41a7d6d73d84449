// Faces followed from frame to frame, and probabilities smoothed over time. In the browser: the server knows no client.

export const SAME_FACE_IOU = 0.3; // boxes that overlap more are one face
export const LOST_S = 0.8; // a face that is not found for so long is gone; coming back, it is a new one
export const LOST_FRAMES = 3; // and for so many frames, where they come slowly
export const PROBABILITY_TAU_S = 0.5; // time in which a change of the probabilities arrives to 63 %
export const BOX_TAU_S = 0.08; // likewise of the box: follows at once, trembles less

/**
 * One step of exponential smoothing for frames that come at uneven times:
 * s += (1 - exp(-dt / tau)) * (x - s). Probabilities that sum to 1 keep doing so.
 */
export function smooth(previous, values, elapsedS, tauS) {
  const share = 1 - Math.exp(-elapsedS / tauS);
  return values.map((value, index) => previous[index] + share * (value - previous[index]));
}

/** Overlap of two boxes [left, top, right, bottom]: intersection over union. */
export function iou(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  return (width * height) / (area(a) + area(b) - width * height);
}

/** Gives each face the number of the face that it was before. */
export class Tracker {
  constructor() {
    this.tracks = [];
    this.next = 1;
    this.lastS = null;
  }

  /**
   * Takes the faces of a frame of time `nowS`; returns the tracks that are seen in it, oldest first:
   * {id, face, box, probabilities, emotion, confidence, firstS, seenS}, box and probabilities smoothed.
   */
  update(faces, nowS) {
    const patienceS = Math.max(LOST_S, LOST_FRAMES * (nowS - (this.lastS ?? nowS)));
    this.lastS = nowS;
    this.tracks = this.tracks.filter((track) => nowS - track.seenS <= patienceS);
    const free = new Set(faces.keys());
    const pairs = this.tracks.flatMap((track) => faces.map((face, index) => ({ track, index, overlap: iou(track.raw, face.box_xyxy) })));
    const taken = new Set();
    for (const { track, index, overlap } of pairs.sort((a, b) => b.overlap - a.overlap)) {
      if (overlap < SAME_FACE_IOU || taken.has(track) || !free.has(index)) continue;
      taken.add(track);
      free.delete(index);
      follow(track, faces[index], nowS);
    }
    for (const index of free) this.tracks.push(begin(this.next++, faces[index], nowS));
    return this.tracks.filter((track) => track.seenS === nowS);
  }
}

function begin(id, face, nowS) {
  const labels = Object.keys(face.probabilities);
  const track = { id, labels, face, raw: face.box_xyxy, box: face.box_xyxy, values: Object.values(face.probabilities), firstS: nowS, seenS: nowS };
  return conclude(track);
}

function follow(track, face, nowS) {
  const elapsedS = nowS - track.seenS;
  track.values = smooth(track.values, track.labels.map((label) => face.probabilities[label]), elapsedS, PROBABILITY_TAU_S);
  track.box = smooth(track.box, face.box_xyxy, elapsedS, BOX_TAU_S);
  Object.assign(track, { face, raw: face.box_xyxy, seenS: nowS });
  conclude(track);
}

function conclude(track) {
  track.probabilities = Object.fromEntries(track.labels.map((label, index) => [label, track.values[index]]));
  track.confidence = Math.max(...track.values);
  track.emotion = track.labels[track.values.indexOf(track.confidence)];
  return track;
}
