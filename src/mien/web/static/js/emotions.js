// How expressions are shown: a colour that colour-blind people can tell apart, a drawn sign, and words.

/** Words for "looks ...": an expression, never a feeling. */
const LOOKS = {
  angry: "angry", disgust: "disgusted", fear: "afraid", happy: "happy",
  neutral: "neutral", sad: "sad", surprise: "surprised", contempt: "contemptuous",
};

/** Mouth and brows of a small drawn face, 24 x 24, as SVG paths. */
const SIGNS = {
  angry: "M6.500 8.200l3.500 1.600M17.500 8.200l-3.500 1.600M8 17.200h8M9 12v.8M15 12v.8",
  disgust: "M6.500 9.200l3.500.6M17.500 9.200l-3.500.6M8 17.600c1.500-1.800 2.800.2 4-.7s2.500-1.600 4 .7M9 12v.8M15 12v.8",
  fear: "M6.500 9l3.500-1.700M17.500 9L14 7.300M8 17.400c.8-1.600 2.300-2.200 4-2.200s3.200.6 4 2.200zM9 11.400v1.600M15 11.400v1.600",
  happy: "M7.500 14.200c1 2.300 2.500 3.400 4.500 3.400s3.500-1.100 4.500-3.400M9 9.600v1.400M15 9.600v1.400",
  neutral: "M8.200 16h7.600M9 9.800v1.400M15 9.800v1.400",
  sad: "M8 17.600c.9-1.700 2.200-2.500 4-2.500s3.100.8 4 2.500M7 9.400l3-1.500M17 9.400l-3-1.500M9 11.600v1M15 11.600v1",
  surprise: "M12 14.300a2 2.300 0 1 0 .01 0M9 9.200v1.800M15 9.200v1.800M6.800 6.800c.9-.9 2-.9 3 0M14.200 6.800c.9-.9 2-.9 3 0",
  contempt: "M8 16.400h3.500c2 0 3.500-.7 4.600-2M9 9.800v1.400M15 9.800v1.400",
};

const SVG = "http://www.w3.org/2000/svg";

/** "happy" as in "looks happy"; labels that mien does not know stay as they are. */
export function look(label) {
  return LOOKS[label] ?? label;
}

/** CSS custom property of the label's colour; unknown labels share one. */
export function colour(label) {
  return `var(--e-${label in LOOKS ? label : "other"})`;
}

/** The label's colour as the page resolves it now, for canvases. */
export function resolvedColour(label) {
  const name = `--e-${label in LOOKS ? label : "other"}`;
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** The drawn sign, decorative: words always stand beside it. */
export function sign(label) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("sign");
  const circle = document.createElementNS(SVG, "circle");
  for (const [name, value] of [["cx", 12], ["cy", 12], ["r", 10]]) circle.setAttribute(name, value);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", SIGNS[label] ?? SIGNS.neutral);
  svg.append(circle, path);
  return svg;
}

/** "93 %", never a false 0 or 100. */
export function percent(probability) {
  if (probability > 0 && probability < 0.01) return "<1 %";
  if (probability > 0.99 && probability < 1) return ">99 %";
  return `${Math.round(probability * 100)} %`;
}

/** One sentence about a face: what it looks like, and how sure that is. */
export function sentence(face) {
  const ranked = Object.entries(face.probabilities).sort((a, b) => b[1] - a[1]);
  const [first, second] = ranked;
  if (face.uncertain) return `Hard to tell: perhaps ${look(first[0])} (${percent(first[1])}) or ${look(second[0])} (${percent(second[1])})`;
  return `Looks ${look(face.emotion)} (${percent(face.confidence)})`;
}
