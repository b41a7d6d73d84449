"""Where the five landmarks lie in FER-2013's own crops, by both detectors.

    python benchmarks/crop_geometry.py --data DATA

reads the training split of a packed data set (`mien data prepare`), enlarges a random sample of it, runs both
detectors and prints the medians. It writes results/crop_geometry.json and docs/images/crop-geometry.png; the latter
shows means over many images only, and portraits that matplotlib and scikit-image carry.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from skimage import data as samples

from mien.datasets import packed
from mien.faces import align, detect
from mien.images import read_image
from mien.results import Image

ROOT = Path(__file__).parents[1]
ENLARGE = 4  # 48 px to 192 px, where both detectors see best
MIRROR = [1, 0, 2, 4, 3]  # the landmarks of a mirrored face, in order from left to right
NAMES = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")


def measure(images: NDArray[np.uint8], detector: detect.Detector) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Share of `(N, 48, 48)` crops with a face, quartiles of its landmarks and box; and the `(5, 2)` medians."""
    side_px = images.shape[1] * ENLARGE
    points, boxes = [], []
    for image in images:
        enlarged = cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_CUBIC)
        (found,) = detector.detect([cv2.cvtColor(enlarged, cv2.COLOR_GRAY2RGB)])
        if len(found) and found.landmarks is not None:
            points.append(found.landmarks[0] / side_px)
            boxes.append(found.boxes_xyxy[0] / side_px)
    quartiles = np.percentile(points, [25, 50, 75], axis=0)
    box_quartiles = np.percentile(boxes, [25, 50, 75], axis=0)
    table = {
        "n": len(images),
        "found_ratio": round(len(points) / len(images), 4),
        "landmarks_median": dict(zip(NAMES, quartiles[1].round(3).tolist(), strict=True)),
        "landmarks_quartile_range": dict(zip(NAMES, (quartiles[2] - quartiles[0]).round(3).tolist(), strict=True)),
        "box_xyxy_median": box_quartiles[1].round(3).tolist(),
    }
    return table, quartiles[1]


def symmetric_mean(medians: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean of several `(5, 2)` medians and their mirror images: a mirrored face is as likely as the face."""
    mean = np.mean(medians, axis=0)
    mirrored = mean[MIRROR] * (-1, 1) + (1, 0)
    return np.asarray((mean + mirrored) / 2).round(3)


def portraits() -> dict[str, Image]:
    """Two photographs that installed packages carry."""
    hopper = Path(mpl.get_data_path(), "sample_data", "grace_hopper.jpg")
    return {
        "astronaut": read_image(Path(samples.__file__).with_name("astronaut.png")),
        "Grace Hopper": read_image(hopper),
    }


def draw(mean_face: NDArray[np.float64], geometry: NDArray[np.float64], path: Path) -> None:
    """The mean face of FER-2013 beside the portraits' crops, with the geometry on each."""
    detector = detect.create("centerface")
    panels: dict[str, NDArray[Any]] = {"mean of FER-2013's training images": mean_face}
    for name, picture in portraits().items():
        (found,) = detector.detect([picture])
        if found.landmarks is None:
            raise SystemExit(f"no face found on the portrait of {name}")
        crop = align.align_crops(picture, found.landmarks[:1], geometry.tolist(), (48, 48))[0]
        panels[f"{name}, aligned, 48 px"] = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    figure, axes = plt.subplots(1, len(panels), figsize=(3.2 * len(panels), 3.5), layout="constrained")
    for axis, (title, panel) in zip(axes, panels.items(), strict=True):
        _draw_panel(axis, title, panel, geometry)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _draw_panel(axis: Axes, title: str, panel: NDArray[Any], geometry: NDArray[np.float64]) -> None:
    axis.imshow(panel, cmap="gray", extent=(0, 1, 1, 0))
    axis.scatter(geometry[:, 0], geometry[:, 1], s=46, facecolors="none", edgecolors="#ffb000", linewidths=1.8)
    axis.set_title(title, fontsize=10)
    axis.set_xticks([0, 0.5, 1])
    axis.set_yticks([0, 0.5, 1])
    axis.tick_params(labelsize=8, length=2)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Landmark positions in FER-2013's crops.")
    parser.add_argument("--data", type=Path, required=True, help="packed data set with a train split")
    parser.add_argument("--images", type=int, default=3000, help="how many training images (default 3000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "crop_geometry.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "images" / "crop-geometry.png")
    options = parser.parse_args()
    train = packed.load(options.data, only=("train",)).split("train")
    chosen = np.sort(np.random.default_rng(options.seed).choice(len(train), options.images, replace=False))
    images = np.asarray(train.images[chosen])
    tables, medians = {}, []
    for name in ("centerface", "yunet"):
        tables[name], median = measure(images, detect.create(name))
        medians.append(median)
        print(f"{name}: a face in {tables[name]['found_ratio']:.1%} of {len(images)} crops")
        for part, (x, y) in tables[name]["landmarks_median"].items():
            print(f"  {part:<19} {x:.3f} {y:.3f}")
    geometry = symmetric_mean(medians)
    print("geometry of mien.bundle.FER2013_LANDMARKS:", geometry.tolist())
    result = {"data": train.digest, "seed": options.seed, "detectors": tables, "geometry": geometry.tolist()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(images.mean(axis=0), geometry, options.picture)


if __name__ == "__main__":
    main()
