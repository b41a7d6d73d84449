// Pictures as {data, width, height}: RGB bytes, row by row. What mien does with OpenCV on the server, in plain JavaScript.

/** A picture with room for `width` x `height` pixels; values written to it are rounded and clipped. */
export function blank(width, height) {
  return { data: new Uint8ClampedArray(width * height * 3), width, height };
}

/** RGB of a canvas's ImageData. */
export function fromImageData({ data, width, height }) {
  const picture = blank(width, height);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    picture.data[to] = data[from];
    picture.data[to + 1] = data[from + 1];
    picture.data[to + 2] = data[from + 2];
  }
  return picture;
}

/** Resized: the mean of the covered area where a side shrinks, linear between pixel centres where it grows. */
export function resize(picture, width, height) {
  if (width === picture.width && height === picture.height) return picture;
  const shrinks = width < picture.width || height < picture.height;
  const taps = shrinks ? areaTaps : linearTaps;
  const across = taps(picture.width, width);
  const down = taps(picture.height, height);
  const rows = new Float32Array(width * picture.height * 3);
  for (let y = 0, at = 0; y < picture.height; y += 1) {
    const line = y * picture.width * 3;
    for (const { first, weights } of across) {
      let [red, green, blue] = [0, 0, 0];
      for (let k = 0, from = line + first * 3; k < weights.length; k += 1, from += 3) {
        red += weights[k] * picture.data[from];
        green += weights[k] * picture.data[from + 1];
        blue += weights[k] * picture.data[from + 2];
      }
      rows[at] = red;
      rows[at + 1] = green;
      rows[at + 2] = blue;
      at += 3;
    }
  }
  const result = blank(width, height);
  const line = width * 3;
  for (let y = 0; y < height; y += 1) {
    const { first, weights } = down[y];
    for (let x = 0; x < line; x += 1) {
      let sum = 0;
      for (let k = 0; k < weights.length; k += 1) sum += weights[k] * rows[(first + k) * line + x];
      result.data[y * line + x] = sum;
    }
  }
  return result;
}

/** For each of `to` cells the first of the `from` pixels that it covers, and the share of each. */
function areaTaps(from, to) {
  const ratio = from / to;
  return Array.from({ length: to }, (_, cell) => {
    const [start, end] = [cell * ratio, Math.min((cell + 1) * ratio, from)];
    const first = Math.floor(start + 1e-6);
    const last = Math.max(first + 1, Math.ceil(end - 1e-6));
    const covered = Array.from({ length: last - first }, (_, k) => Math.min(first + k + 1, end) - Math.max(first + k, start));
    const sum = covered.reduce((total, share) => total + share, 0);
    return { first, weights: covered.map((share) => share / sum) };
  });
}

function linearTaps(from, to) {
  return Array.from({ length: to }, (_, cell) => {
    const place = Math.min(Math.max(((cell + 0.5) * from) / to - 0.5, 0), from - 1);
    const first = Math.min(Math.floor(place), Math.max(from - 2, 0));
    const share = place - first;
    return { first, weights: from === 1 ? [1] : [1 - share, share] };
  });
}

/** With `left`, `top`, `right`, `bottom` black pixels around it. */
export function border(picture, { left, top, right, bottom }) {
  const result = blank(picture.width + left + right, picture.height + top + bottom);
  for (let y = 0; y < picture.height; y += 1) {
    const from = y * picture.width * 3;
    result.data.set(picture.data.subarray(from, from + picture.width * 3), ((y + top) * result.width + left) * 3);
  }
  return result;
}

/** Luma (ITU-R BT.601) of each pixel, rounded. */
export function grey({ data, width, height }) {
  const luma = new Uint8ClampedArray(width * height);
  for (let pixel = 0, from = 0; pixel < luma.length; pixel += 1, from += 3) {
    luma[pixel] = 0.299 * data[from] + 0.587 * data[from + 1] + 0.114 * data[from + 2];
  }
  return luma;
}
