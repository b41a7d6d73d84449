"""Model cards of the packaged weights, from the files themselves and what `mien evaluate` measured.

    mien evaluate default --data DATA --output results/evaluation/default     (and so for each packaged model)
    python benchmarks/model_cards.py

A card is written only where the measured file is the packaged one: the sha256 in metrics.json has to be its own.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mien import hub
from mien.runtime.predictor import Predictor
from mien.training import manifests, records

ROOT = Path(__file__).parents[1]
MEASURED, RECORDS = ROOT / "results" / "evaluation", ROOT / "results" / "runs"

CARD = """# {name}

{summary}

| | |
|---|---|
| file | `{file}`, {megabytes:.2f} MB, sha256 `{sha256}` |
| input | {height} x {width}, {channels}; landmarks placed as in [crop geometry](../../../docs/crop-geometry.md) |
| output | {labels} |
| probabilities | softmax(logits / {temperature:.3f}); `uncertain` under {threshold:.3f} |
| licence of the weights | {licence} |

## Data

Training on the {train} split of FER-2013 (28,709 images{crops}), FER+ votes: {ferplus}. Everything was chosen, and
temperature and threshold were fitted, on PublicTest (3,589 images); no figure here comes from PrivateTest.
Digest of the training data: `{train_digest}`.

## Recipe

`{model}`, {epochs} epochs, {optimizer}, rate {lr:g}, batch {batch_size}, on {device}, torch {torch}.

{origin}{horizons}All settings are in the file's metadata: `mien models info {name}`.

## Measured on PublicTest, one forward pass

| | |
|---|---|
| accuracy | **{accuracy:.2f} %** (95 % interval {low:.2f} to {high:.2f}, n = {n}) |
| accuracy without the images that have an exact twin in Training | {without:.2f} % (n = {n_without}) |
| macro-F1 | {macro_f1:.4f} |
| log-loss | {log_loss:.4f} |
| ECE, 15 bins | {ece:.2f} %; cross-fitted (one half sets the temperature, the other is scored) {cross_ece:.2f} % |
| the {coverage:.0f} % that are not `uncertain` | {certain:.2f} % right |

| class | precision | recall | F1 | faces |
|---|--:|--:|--:|--:|
{classes}

## Limits

- Labels of FER-2013 are noisy: the crowd's plurality in FER+ agrees with them on about 64 % of the images.
- Weakest: {weakest}. A low probability for a rare expression is no proof of its absence.
- Found on the web in 2013, mostly posed or press pictures; ages, skin tones and cultures are not represented evenly.
  Accuracy on groups was not measured, since the data set does not name them.
- An expression is not a feeling. Not for decisions about people; see the README's responsible use.
"""


def card(path: Path, metrics: dict[str, Any]) -> str:
    """The card of one packaged file."""
    predictor = Predictor(path)
    spec, recipe = predictor.spec, predictor.spec.training["recipe"]
    found = metrics["per_class"]
    weakest = sorted(found, key=lambda label: found[label]["recall"])[:2]
    horizons = predictor.spec.training.get("horizons") or []
    changed = "; ".join(f"{one['epochs']} from epoch {one['from_epoch']} on" for one in horizons)
    low, high = metrics["accuracy_ci95"]
    aligned = (spec.training["data"].get("provenance") or {}).get("aligned", {})
    added = f", and aligned crops of {aligned['images']['train']:,} of them" if aligned.get("added") else ""
    added += " pasted into photos" if aligned.get("photos") else ""
    return CARD.format(
        name=path.stem,
        summary=f"{spec.precision} weights of `{recipe['model']}`: what `mien.load({path.stem!r})` reads.",
        file=path.name,
        megabytes=path.stat().st_size / 1e6,
        sha256=hub.sha256_of(path),
        height=spec.input.size_hw[0],
        width=spec.input.size_hw[1],
        channels="grey" if spec.input.channels == 1 else "RGB",
        labels=", ".join(spec.labels),
        temperature=spec.temperature,
        threshold=spec.threshold,
        licence=spec.licence,
        train="Training",
        crops=added,
        ferplus={"none": "not used", "soft": "as soft targets"}.get(recipe["ferplus"], recipe["ferplus"]),
        train_digest=spec.training["data"]["digests"]["train"],
        model=recipe["model"],
        epochs=recipe["epochs"],
        optimizer=recipe["optimizer"],
        lr=recipe["lr"],
        batch_size=recipe["batch_size"],
        device=spec.training["device"],
        torch=spec.training["versions"]["torch"],
        origin=_origin(recipe),
        horizons=f"Planned epochs: {changed}; the rate followed the newest plan.\n" if len(horizons) > 1 else "",
        accuracy=100 * metrics["accuracy"],
        low=100 * low,
        high=100 * high,
        n=metrics["n"],
        without=100 * metrics["accuracy_without_twins"],
        n_without=metrics["n_without_twins"],
        macro_f1=metrics["macro_f1"],
        log_loss=metrics["log_loss"],
        ece=100 * metrics["ece"],
        cross_ece=100 * metrics["calibration"]["cross_fit"]["ece"],
        coverage=100 * metrics["uncertain"]["coverage"],
        certain=100 * metrics["uncertain"]["accuracy_of_certain"],
        classes="\n".join(
            f"| {label} | {row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} | {row['support']} |"
            for label, row in found.items()
        ),
        weakest=" and ".join(f"{label} (recall {found[label]['recall']:.2f})" for label in weakest),
    )


def _origin(recipe: Mapping[str, Any]) -> str:
    """The command of the recorded run that has these very settings, as a line; nothing where none is recorded."""
    found = records.read(RECORDS)
    runs = {one.name for one in found if one.about["recipe"] == recipe}
    return "".join(f"`{one['command']}`\n\n" for one in manifests.manifest(found) if one["run"] in runs)


def main() -> int:
    """Write the card of every packaged model; 1 where one was not measured."""
    status = 0
    for name in hub.packaged():
        path = hub.PACKAGED / f"{name}.onnx"
        if name == "centerface":
            continue
        record = MEASURED / name / "metrics.json"
        metrics = json.loads(record.read_text()) if record.exists() else None
        if metrics is None or metrics["model"]["sha256"] != hub.sha256_of(path):
            print(f"{name}: not measured as it is: mien evaluate {name} --output {record.parent}", file=sys.stderr)
            status = 1
            continue
        path.with_suffix(".md").write_text(card(path, metrics), encoding="utf-8")
        print(path.with_suffix(".md"))
    return status


if __name__ == "__main__":
    sys.exit(main())
