// Upright crops in the model's geometry, as src/mien/faces/align.py cuts them.
import { blank, resize } from "./pixels.js";

const MAX_OVERSAMPLING = 64;

/**
 * The similarity {a, b, x, y} (u = a px - b py + x, v = b px + a py + y) that brings five points nearest to
 * `geometry`, points in crop units, in a crop of `width` x `height`. Umeyama, 1991; in the plane one complex product.
 */
export function similarity(points, geometry, width, height) {
  const targets = geometry.map(([x, y]) => [x * width, y * height]);
  const [px, py] = mean(points);
  const [tx, ty] = mean(targets);
  let [along, across, spread] = [0, 0, 0];
  for (const [index, [x, y]] of points.entries()) {
    const [dx, dy] = [x - px, y - py];
    const [ex, ey] = [targets[index][0] - tx, targets[index][1] - ty];
    along += dx * ex + dy * ey;
    across += dx * ey - dy * ex;
    spread += dx * dx + dy * dy;
  }
  const [a, b] = [along / spread, across / spread];
  return { a, b, x: tx - a * px + b * py, y: ty - b * px - a * py };
}

function mean(points) {
  const sum = points.reduce(([x, y], point) => [x + point[0], y + point[1]], [0, 0]);
  return [sum[0] / points.length, sum[1] / points.length];
}

/**
 * The crop of `width` x `height`. A larger face is sampled on a finer grid, and each crop pixel is the mean of its part of
 * that grid; what lies outside the picture repeats its edge.
 */
export function crop(picture, { a, b, x, y }, width, height) {
  const finer = Math.min(Math.max(Math.ceil(1 / Math.hypot(a, b) - 1e-6), 1), MAX_OVERSAMPLING);
  const grid = blank(width * finer, height * finer);
  const norm = (a * a + b * b) * finer; // the inverse: p = conj(a + bi) (u - x, v - y) / |a + bi|^2
  const [backA, backB] = [a / norm, -b / norm];
  for (let v = 0, at = 0; v < grid.height; v += 1) {
    for (let u = 0; u < grid.width; u += 1, at += 3) {
      const [du, dv] = [u + 0.5 - x * finer, v + 0.5 - y * finer];
      sample(picture, backA * du - backB * dv - 0.5, backB * du + backA * dv - 0.5, grid.data, at);
    }
  }
  return resize(grid, width, height);
}

/** Writes the colour at pixel-centre coordinates (x, y), linear between four pixels. */
function sample({ data, width, height }, x, y, target, at) {
  const [left, top] = [Math.floor(x), Math.floor(y)];
  const [shareX, shareY] = [x - left, y - top];
  const x0 = clamp(left, width) * 3;
  const x1 = clamp(left + 1, width) * 3;
  const y0 = clamp(top, height) * width * 3;
  const y1 = clamp(top + 1, height) * width * 3;
  for (let channel = 0; channel < 3; channel += 1) {
    const above = data[y0 + x0 + channel] * (1 - shareX) + data[y0 + x1 + channel] * shareX;
    const below = data[y1 + x0 + channel] * (1 - shareX) + data[y1 + x1 + channel] * shareX;
    target[at + channel] = above * (1 - shareY) + below * shareY;
  }
}

function clamp(index, size) {
  return Math.min(Math.max(index, 0), size - 1);
}
