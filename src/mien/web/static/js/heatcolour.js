// Heatmap colours: cividis centred on zero, as the Python pictures use it (mien/explain/colour.py).

/** Ten even stops of cividis (Nuñez et al. 2018); between them it is straight to within a few levels. */
const CIVIDIS = [
  [0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115],
  [138, 134, 120], [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56],
];
const FULL = 0.95; // how far the strongest value covers the face at full opacity
const FACE_LOW = 38; // grey range of the face under a map, so that both ends of the colours stand out
const FACE_HIGH = 205;

/** [r, g, b] of a value in [-1, 1]. */
export function colourAt(value) {
  const bent = (Math.sign(value) * Math.sqrt(Math.abs(value)) + 1) / 2; // the middle of cividis is grey: leave it early
  const place = Math.min(0.999999, Math.max(0, bent)) * (CIVIDIS.length - 1);
  const index = Math.floor(place);
  return CIVIDIS[index].map((low, k) => low + (CIVIDIS[index + 1][k] - low) * (place - index));
}

/** How far a value's colour covers the face, 0..1. */
export function coverAt(value) {
  return FULL * Math.sqrt(Math.min(1, Math.abs(value)));
}

/** The map as RGBA pixels of its own size. `limit` gets the full colour. */
export function overlayOf(map, { limit, opacity }) {
  const [height, width] = map.shape_hw;
  const pixels = new ImageData(width, height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const share = Math.max(-1, Math.min(1, (map.values[y][x] * map.scale) / limit));
      pixels.data.set([...colourAt(share), 255 * coverAt(share) * opacity], 4 * (y * width + x));
    }
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

/** Draws the crop, greyed as far as the map is opaque, and the map over it, filling the canvas. */
export function drawMap(context, crop, map, { limit, opacity }) {
  const { width, height } = context.canvas;
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(crop, 0, 0, width, height);
  const face = new OffscreenCanvas(width, height);
  const grey = face.getContext("2d");
  grey.filter = "grayscale(1)";
  grey.drawImage(crop, 0, 0, width, height);
  grey.filter = "none";
  squeeze(grey, width, height);
  context.globalAlpha = opacity;
  context.drawImage(face, 0, 0);
  context.globalAlpha = 1;
  context.drawImage(overlayOf(map, { limit, opacity }), 0, 0, width, height);
}

/** Maps 0..255 to FACE_LOW..FACE_HIGH. */
function squeeze(context, width, height) {
  const scale = (FACE_HIGH - FACE_LOW) / 255;
  context.globalAlpha = 1 - scale;
  const level = Math.round(FACE_LOW / (1 - scale));
  context.fillStyle = `rgb(${level} ${level} ${level})`;
  context.fillRect(0, 0, width, height);
  context.globalAlpha = 1;
}
