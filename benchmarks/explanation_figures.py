"""The pictures of docs/explanations.md, from portraits that two packages ship and from drawn faces.

    python benchmarks/explanation_figures.py --run RUN --model default --baseline baseline

RUN is the run or checkpoint behind the strongest model at hand (for gradients); --model and --baseline are names,
.onnx files, runs or checkpoints. No image of FER-2013 is shown. Without --baseline the comparison is left out.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib import cbook
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from mien.explain.canvas import Canvas, Cell, figure
from mien.explain.explainer import ExplainablePredictor, explain
from mien.explain.overlay import heatmap_panel, original_panel, percent
from mien.labels import FER7

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.explain import load  # noqa: E402 - benchmarks are no package that is installed
from tests.drawing import draw_face  # noqa: E402

PICTURES = ROOT / "docs" / "images"
WIDTH_PX = 1720


def main() -> None:
    """Write every picture that the models at hand allow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="run or checkpoint, for gradients")
    parser.add_argument("--model", default="default")
    parser.add_argument("--baseline")
    parser.add_argument("--portraits", type=Path, default=ROOT / "build" / "portraits")
    options = parser.parse_args()

    collins, hopper = portraits(options.portraits)
    PICTURES.mkdir(parents=True, exist_ok=True)
    explain_to("explain-methods.png", [collins], [options.run], "--grid", "methods")
    explain_to("explain-labels.png", [hopper], [options.model], "--grid", "labels")
    explain_to(
        "explain-check.png", [collins], [options.run], "--check", "--method", "occlusion", "--method", "saliency"
    )
    if options.baseline:
        explain_to("explain-baseline.png", [collins, hopper], [options.baseline, options.model])
    saliency_for_the_classes(load(options.run)).save(PICTURES / "explain-saliency.png")
    for path in PICTURES.glob("explain-*.png"):
        shrink(path)


def portraits(folder: Path) -> tuple[Path, Path]:
    """Eileen Collins (NASA, from scikit-image) and Grace Hopper (US Navy, from matplotlib); both public domain."""
    folder.mkdir(parents=True, exist_ok=True)
    collins, hopper = folder / "eileen_collins.png", folder / "grace_hopper.jpg"
    Image.fromarray(data.astronaut()).save(collins)  # type: ignore[no-untyped-call]
    hopper.write_bytes(Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)).read_bytes())
    return collins, hopper


def explain_to(name: str, images: list[Path], models: list[str], *options: str) -> None:
    """One call of the command line."""
    chosen = [part for model in models for part in ("--model", model)]
    command = ["mien", "explain", *map(str, images), *chosen, *options, "--output", str(PICTURES / name)]
    print("$", *command, flush=True)
    subprocess.run([str(Path(sys.executable).with_name("mien")), *command[1:]], check=True)


def shrink(path: Path) -> None:
    """At most `WIDTH_PX` wide: sharp on a page, a third of the bytes."""
    with Image.open(path) as picture:
        height = round(picture.height * WIDTH_PX / picture.width)
        smaller = picture.resize((WIDTH_PX, height), Image.Resampling.LANCZOS) if picture.width > WIDTH_PX else picture
        smaller.load()
    smaller.save(path, optimize=True)


def saliency_for_the_classes(predictor: ExplainablePredictor) -> Canvas:
    """Seven drawn faces, each over its saliency and SmoothGrad for the emotion that was drawn."""
    rng = np.random.default_rng(0)
    faces = {label: draw_face(label, rng) for label in FER7}
    rows: list[list[Cell]] = [[_drawn(predictor, face, label) for label, face in faces.items()]]
    for method in ("saliency", "smoothgrad"):
        maps = {label: explain(predictor, face, [label], method=method)[0] for label, face in faces.items()}
        rows.append([heatmap_panel(faces[label], heatmap) for label, heatmap in maps.items()])
    return figure(rows)


def _drawn(predictor: ExplainablePredictor, face: NDArray[np.uint8], label: str) -> Cell:
    chances = predictor.predict(face[None])[0]
    top = int(chances.argmax())
    says = f"{predictor.spec.name}: {predictor.spec.labels[top]} {percent(float(chances[top]))}"
    return original_panel(face, says, title=f"Drawn {label}")


if __name__ == "__main__":
    main()
