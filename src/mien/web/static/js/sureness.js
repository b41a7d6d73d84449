// "How sure is this?": the model's own record in plain words. What a model does not carry is said to be unknown.
import { h } from "./dom.js";
import { percent } from "./emotions.js";

/** Fills the panel with what each model says of itself. */
export function showSureness(models) {
  const body = document.getElementById("sure-body");
  body.replaceChildren(...models.map((model) => modelFacts(model, models.length > 1)), limits());
}

function modelFacts(model, several) {
  const facts = [trained(model), accuracy(model), calibration(model), uncertainty(model), hardest(model), ["Licence of the weights", sentenceOf(model.model.licence)]].filter(Boolean);
  const list = h("dl", { class: "facts" }, ...facts.map(([term, text]) => h("div", {}, h("dt", {}, term), h("dd", {}, text))));
  const { name, sha256, precision } = model.model;
  return h("div", { class: "facts-of" },
    h("h3", {}, several ? `Model ${model.name}` : "What the model knows of itself"), list,
    h("p", { class: "small" }, `${name}, ${precision}, sha256 `, h("code", {}, sha256.slice(0, 12))));
}

const FER2013 = "FER-2013: 35,887 small grey photos from a web search, labelled by people who often disagree.";

function trained({ training, model }) {
  const about = training.data?.provenance ?? training.data ?? {};
  if (["icml", "case-study"].includes(about.protocol) || model.licence.includes("FER-2013")) return ["Trained on", FER2013];
  return ["Trained on", typeof about.source === "string" ? `${about.source}.` : "The file does not say."];
}

function accuracy({ metrics }) {
  if (metrics.accuracy === undefined) return ["Accuracy", "Not measured: treat every answer as a guess."];
  const [low, high] = metrics.accuracy_ci95 ?? [];
  const interval = low === undefined ? "" : ` (95 % interval ${decimal(low)} to ${decimal(high)})`;
  const share = `right on ${decimal(metrics.accuracy)}${interval} of ${metrics.n?.toLocaleString("en") ?? "the"} photos kept out of its training`;
  return ["Accuracy", `It was ${share}. People reach about 65 % on such photos (Goodfellow et al., 2013).`];
}

function calibration({ metrics, model }) {
  if (metrics.ece === undefined) return ["Percentages", "Not checked: read them as an order, not as chances."];
  const off = (100 * metrics.ece).toFixed(1);
  return ["Percentages", `When it says 80 %, it is right about 80 times in 100: on average the numbers are off by ${off} points (temperature ${model.temperature.toFixed(2)}).`];
}

function uncertainty({ metrics, model }) {
  if (!(model.threshold > 0)) return null;
  const known = metrics.uncertain;
  const kept = known?.coverage === undefined ? "" : ` That leaves ${decimal(known.coverage)} of faces, on which it is right ${decimal(known.accuracy_of_certain)} of the time.`;
  return ["“Hard to tell”", `Below ${percent(model.threshold)} for the best guess, mien calls the face uncertain.${kept}`];
}

function hardest({ metrics }) {
  const rows = Object.entries(metrics.per_class ?? {}).sort((a, b) => a[1].recall - b[1].recall);
  if (rows.length < 2) return null;
  const [worst, best] = [rows[0], rows.at(-1)];
  return ["Strong and weak", `It recognises ${best[0]} best (${decimal(best[1].recall)} found) and ${worst[0]} worst (${decimal(worst[1].recall)} found).`];
}

function limits() {
  return h("div", { class: "facts-of" },
    h("h3", {}, "Limits to keep in mind"),
    h("ul", {},
      h("li", {}, "Faces show far more than seven expressions, and the same expression means different things in different people and cultures."),
      h("li", {}, "The training photos do not represent everyone equally; ages, skin tones and cultures that are rare in them get worse answers."),
      h("li", {}, "Small, dark, blurred, covered or turned faces make wrong answers more likely."),
      h("li", {}, "Do not use it to judge a person: not for hiring, policing, exams, medicine or anything else with consequences.")));
}

function sentenceOf(words) {
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}.`;
}

function decimal(share) {
  return `${(100 * share).toFixed(1)} %`;
}
