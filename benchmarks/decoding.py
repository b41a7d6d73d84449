"""What decoding a large JPEG at a fraction of its size wins, from the file to the faces, and what it changes.

    python benchmarks/decoding.py [--repetitions 15]

composes photos of 12 megapixels with one large face and with ten small ones, and times, in turn: decoding alone, and
the whole analysis with either detector, each with reduced decoding and with the whole picture. CPU time (all threads)
beside wall time. The faces of both ways are compared. Writes results/decoding.json and a section of the page.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from page import ROOT, keep, table
from timing import analyzers, in_turn

from mien import bench, demo
from mien.faces import detect
from mien.images import read_image, read_photo, write_image
from mien.results import Face

SIZE_WH = (4000, 3000)
SCENES = {"one large face": (2600, 1), "ten small faces": (260, 10)}  # height of the portrait in pixels, how many


def compose(portrait: Path, height_px: int, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Portraits in rows of five on noise, which costs a decoder what a real background costs."""
    noise = np.random.default_rng(0).normal(128, 12, (SIZE_WH[1], SIZE_WH[0], 3)).clip(0, 255).astype(np.uint8)
    whole = PIL.Image.fromarray(noise)
    with PIL.Image.open(portrait) as opened:
        width_px = round(height_px * opened.width / opened.height)
        face = opened.convert("RGB").resize((width_px, height_px), PIL.Image.Resampling.LANCZOS)
    columns, rows = min(count, 5), -(-count // 5)
    for i in range(count):
        column, row = i % columns, i // columns
        x = (2 * column + 1) * SIZE_WH[0] // (2 * columns) - width_px // 2
        whole.paste(face, (x, (2 * row + 1) * SIZE_WH[1] // (2 * rows) - height_px // 2))
    return np.array(whole)


def difference(found: list[Face], expected: list[Face]) -> dict[str, float]:
    """How far the faces of the two ways are apart."""
    if len(found) != len(expected):
        raise SystemExit(f"{len(found)} faces reduced, {len(expected)} whole: the comparison is off")
    pairs = []
    for face in expected:
        centres = [float(np.abs(other.box_xyxy - face.box_xyxy).max()) for other in found]
        pairs.append((found[int(np.argmin(centres))], face))
    side = [float((face.box_xyxy[2:] - face.box_xyxy[:2]).max()) for _, face in pairs]
    boxes = [
        float(np.abs(one.box_xyxy - other.box_xyxy).max()) / s for (one, other), s in zip(pairs, side, strict=True)
    ]
    probabilities = [float(np.abs(one.probabilities - other.probabilities).max()) for one, other in pairs]
    same = [one.emotion == other.emotion for one, other in pairs]
    return {
        "faces": len(expected),
        "box_of_side": max(boxes),
        "probability": max(probabilities),
        "same_emotion": float(np.mean(same)),
    }


def measure(folder: Path, repetitions: int) -> list[dict[str, Any]]:
    """A row a scene and stage."""
    rows = []
    detectors = dict(analyzers())
    for scene, (height_px, count) in SCENES.items():
        file = folder / f"{count}.jpg"
        write_image(compose(demo.portrait(), height_px, count), file)
        decoding: dict[str, Callable[[], object]] = {
            "reduced": lambda file=file: read_photo(file, side_px=detect.MAX_SIDE_PX),
            "whole": lambda file=file: read_image(file),
        }
        rows.append({"scene": scene, "stage": "decoding", **in_turn(decoding, rounds=repetitions)})
        for name, analyzer in detectors.items():
            ways: dict[str, Callable[[], list[Face]]] = {
                "reduced": lambda file=file, analyzer=analyzer: analyzer.analyze(file),
                "whole": lambda file=file, analyzer=analyzer: analyzer.analyze(read_image(file)),
            }
            apart = difference(ways["reduced"](), ways["whole"]())
            rows.append(
                {"scene": scene, "stage": f"file to faces, {name}", **in_turn(ways, rounds=repetitions), **apart}
            )
    return rows


def section(about: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The table."""
    heads = ["photo of 12 megapixels", "stage", "whole ms (CPU)", "reduced ms (CPU)", "times faster (CPU)"]
    heads += ["boxes apart, % of the face", "probabilities apart", "same emotion"]
    lines = []
    for row in rows:
        reduced, whole = row["reduced"], row["whole"]
        cells = [f"{way['wall_ms']:,.0f} ({way['cpu_ms']:,.0f})" for way in (whole, reduced)]
        wins = [whole[key] / reduced[key] for key in ("wall_ms", "cpu_ms")]
        apart = ["", "", ""]
        if "faces" in row:
            same = f"{100 * row['same_emotion']:.0f} % of {row['faces']}"
            apart = [f"{100 * row['box_of_side']:.1f}", f"{row['probability']:.3f}", same]
        lines.append([row["scene"], row["stage"], *cells, f"{wins[0]:.2f} ({wins[1]:.2f})", *apart])
    place = f"{about['cpu']}, {about['cpus']} cores; medians, both ways in turn; the largest difference of any face."
    why = (
        "Detectors look at 1,280 pixels at most, so a photo of 4,000 is decoded at half its size (libjpeg leaves out "
        "the fine coefficients). Where a face has fewer than 1.5 pixels of that for a pixel of its crop, the whole "
        "picture is decoded after all, and the crops are cut from it: small faces keep every pixel, and pay for both."
    )
    return f"{place}\n\n{table(heads, lines, text_columns=2)}\n\n{why}"


def main() -> None:
    """Measure, keep, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--photos", type=Path, default=ROOT / "build" / "decoding", help="where the photos are made")
    parser.add_argument("--try", dest="only_try", action="store_true", help="print, and write neither figures nor page")
    options = parser.parse_args()
    options.photos.mkdir(parents=True, exist_ok=True)
    about, rows = bench.machine(), measure(options.photos, options.repetitions)
    text = section(about, rows)
    print(text)
    if not options.only_try:
        keep("decoding", {"machine": about, "rows": rows}, {"decoding": text})


if __name__ == "__main__":
    main()
