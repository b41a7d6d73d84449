// Faces followed from frame to frame, and probabilities smoothed over time. In the browser: the server knows no client.
// Smoothing and hysteresis are those of mien.video.smooth; tests/web/smoothing.json holds both to the same numbers.

export const HALF_LIFE_S = 0.2; // of the smoothing of probabilities
export const HYSTERESIS = 0.1; // lead in probability that another emotion needs to be shown
export const FLOOR = 1e-6; // of a probability before its log is taken: zero would stay zero for ever
export const SAME_FACE_IOU = 0.25; // boxes that overlap more are one face
export const LOST_S = 1.5; // a face that is not found for so long is gone; coming back, it is a new one
export const LOST_FRAMES = 3; // and for so many frames, where they come slowly
export const SPEED_S = 0.3; // time over which the speed of a face is measured
export const BOX_TAU_S = 0.08; // time in which a change of the box arrives to 63 %: follows at once, trembles less

/**
 * The smoothed probabilities of one face, and the label that is shown for it: exponential smoothing of the logs by
 * time, l <- a l + (1 - a) log p with a = 2^(-dt / half-life), shown as softmax(l). Another label is shown only when
 * its smoothed probability is greater by more than `hysteresis`. 0 switches either off.
 */
export class Smoother {
  constructor({ halfLifeS = HALF_LIFE_S, hysteresis = HYSTERESIS } = {}) {
    this.halfLifeS = halfLifeS;
    this.hysteresis = hysteresis;
    this.logs = null;
    this.timeS = 0;
    this.shown = null;
  }

  /** Takes the probabilities of a frame; returns {probabilities, shown}: smoothed ones, and the index to show. */
  update(measured, timeS) {
    const probabilities = this.halfLifeS === 0 ? measured : this.#smooth(measured, timeS);
    const best = probabilities.indexOf(Math.max(...probabilities));
    if (this.shown === null || probabilities[best] - probabilities[this.shown] > this.hysteresis) this.shown = best;
    return { probabilities, shown: this.shown };
  }

  #smooth(measured, timeS) {
    const logs = measured.map((value) => Math.log(Math.max(value, FLOOR)));
    const kept = this.logs === null ? 0 : 2 ** (-Math.max(0, timeS - this.timeS) / this.halfLifeS);
    this.logs = kept === 0 ? logs : logs.map((value, index) => kept * this.logs[index] + (1 - kept) * value);
    this.timeS = timeS;
    const highest = Math.max(...this.logs);
    const grown = this.logs.map((value) => Math.exp(value - highest));
    const sum = grown.reduce((total, value) => total + value, 0);
    return grown.map((value) => value / sum);
  }
}

/** Overlap of two boxes [left, top, right, bottom]: intersection over union. */
export function iou(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  return (width * height) / (area(a) + area(b) - width * height);
}

/** Gives each face the number of the face that it was before, by where its speed should have brought it. */
export class Tracker {
  constructor(smoothing = {}) {
    this.smoothing = smoothing;
    this.tracks = [];
    this.next = 1;
    this.lastS = null;
  }

  /**
   * Takes the faces of a frame of time `nowS`; returns the tracks that are seen in it, oldest first:
   * {id, face, box, labels, values, probabilities, emotion, confidence, firstS, seenS}, all but `face` smoothed;
   * `confidence` is the smoothed probability of `emotion`.
   */
  update(faces, nowS) {
    const patienceS = Math.max(LOST_S, LOST_FRAMES * (nowS - (this.lastS ?? nowS)));
    this.lastS = nowS;
    this.tracks = this.tracks.filter((track) => nowS - track.seenS <= patienceS);
    const free = new Set(faces.keys());
    const pairs = this.tracks.flatMap((track) => {
      const expected = predicted(track, nowS);
      return faces.map((face, index) => ({ track, index, overlap: iou(expected, face.box_xyxy) }));
    });
    const taken = new Set();
    for (const { track, index, overlap } of pairs.sort((a, b) => b.overlap - a.overlap)) {
      if (overlap < SAME_FACE_IOU || taken.has(track) || !free.has(index)) continue;
      taken.add(track);
      free.delete(index);
      follow(track, faces[index], nowS);
    }
    for (const index of free) this.tracks.push(begin(this.next++, faces[index], nowS, this.smoothing));
    return this.tracks.filter((track) => track.seenS === nowS);
  }
}

/** Where a face should be now: on from where it was last observed, as fast as it was observed to move. */
function predicted({ path, raw }, nowS) {
  const [first, last] = [path[0], path.at(-1)];
  if (last.timeS <= first.timeS) return raw;
  const share = (nowS - last.timeS) / (last.timeS - first.timeS);
  const shift = [0, 1].map((axis) => share * (last.centre[axis] - first.centre[axis]));
  return raw.map((value, index) => value + shift[index % 2]);
}

function observe(track, box, nowS) {
  track.raw = box;
  track.path = track.path.filter(({ timeS }) => nowS - timeS <= SPEED_S || timeS === track.seenS);
  track.path.push({ timeS: nowS, centre: [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2] });
  track.seenS = nowS;
}

function begin(id, face, nowS, smoothing) {
  const labels = Object.keys(face.probabilities);
  const track = { id, labels, box: face.box_xyxy, path: [], smoother: new Smoother(smoothing), firstS: nowS, seenS: nowS };
  observe(track, face.box_xyxy, nowS);
  return conclude(track, face, nowS);
}

function follow(track, face, nowS) {
  const share = 1 - Math.exp(-(nowS - track.seenS) / BOX_TAU_S);
  track.box = face.box_xyxy.map((value, index) => track.box[index] + share * (value - track.box[index]));
  observe(track, face.box_xyxy, nowS);
  conclude(track, face, nowS);
}

function conclude(track, face, nowS) {
  const { probabilities, shown } = track.smoother.update(track.labels.map((label) => face.probabilities[label]), nowS);
  track.face = face;
  track.values = probabilities;
  track.probabilities = Object.fromEntries(track.labels.map((label, index) => [label, probabilities[index]]));
  track.confidence = probabilities[shown];
  track.emotion = track.labels[shown];
  return track;
}
