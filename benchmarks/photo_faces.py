"""Training faces as serving cuts them from photos, added to a packed data set.

    python benchmarks/photo_faces.py data/fer2013 data/fer2013-and-photos

pastes every training face into a photo as benchmarks/pipeline.py does, on other backgrounds than that benchmark has,
lets centerface find it in its surroundings, and adds the aligned crop behind the training images. Faces that are not
found add nothing; validation and test stay as they are. Twenty minutes on two cores.
"""

import argparse
import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pipeline
from numpy.typing import NDArray

from mien.bundle import FER2013_LANDMARKS
from mien.datasets import packed
from mien.datasets.packed import Split
from mien.faces import align, detect
from mien.preprocess import to_grey

BACKGROUNDS = ("cat", "cell", "clock", "coins", "moon", "page", "retina", "text")
DETECTOR = "centerface"
SURROUNDINGS = 1.0  # of the pasted side, either way from its centre; looking through whole photos takes thrice as long
CHUNK = 512


def main() -> None:
    """Paste, find, cut, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="packed data set")
    parser.add_argument("output", type=Path, help="packed data set to write")
    parser.add_argument("--seed", type=int, default=0, help="which photos (default 0)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    options = parser.parse_args()
    dataset = packed.load(options.data)
    if not dataset.provenance.get("aligned", {"added": True}).get("added"):
        parser.error(f"{options.data} holds aligned crops instead of the images: prepare it without --align")
    plain = dataset.split("train").without_added()
    crops, at = cut(np.asarray(plain.images), options.seed, workers=options.workers)
    print(f"{len(crops)} of {len(plain)} faces found")
    splits = {**dataset.splits, "train": added(plain, crops, at)}
    packed.save(packed.Dataset(dataset.labels, splits, provenance(dataset, plain, at, options.seed)), options.output)


def cut(images: NDArray[np.uint8], seed: int, *, workers: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Crops `(n, h, w)` of the `(N, h, w)` faces that were found, and which faces these are."""
    starts = range(0, len(images), CHUNK)
    chunks = (images[start : start + CHUNK] for start in starts)
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawned, initializer=partial(cv2.setNumThreads, 1)) as pool:
        found = [one for chunk in pool.map(_cut_chunk, chunks, starts, repeat(seed)) for one in chunk]
    if not found:
        raise SystemExit("no face was found in any photo: nothing to add")
    return np.stack([crop for _, crop in found]), np.array([at for at, _ in found])


def _cut_chunk(images: NDArray[np.uint8], start: int, seed: int) -> list[tuple[int, NDArray[np.uint8]]]:
    detector, cuts = detect.create(DETECTOR), []
    for at, face in enumerate(images, start):
        pasted = _near(pipeline.paste(face, np.random.default_rng([seed, at]), backgrounds=BACKGROUNDS))
        (found,) = detector.detect([pasted.photo])
        matches = [i for i, box in enumerate(found.boxes_xyxy) if pipeline.matches(pasted, box)]
        if matches and found.landmarks is not None:
            crops = align.align_crops(pasted.photo, found.landmarks[matches[:1]], FER2013_LANDMARKS, face.shape)
            cuts.append((at, to_grey(crops)[0]))
    return cuts


def _near(pasted: pipeline.Pasted) -> pipeline.Pasted:
    """The part of the photo around the face."""
    reach = SURROUNDINGS * pasted.side_px
    left, top = (max(0, round(centre - reach)) for centre in pasted.centre_xy)
    right, bottom = (round(centre + reach) for centre in pasted.centre_xy)
    centre_xy = (pasted.centre_xy[0] - left, pasted.centre_xy[1] - top)
    return replace(pasted, photo=np.ascontiguousarray(pasted.photo[top:bottom, left:right]), centre_xy=centre_xy)


def added(plain: Split, crops: NDArray[np.uint8], at: NDArray[np.int64]) -> Split:
    """`plain` with the crops behind its images, each with label and votes of the image that it shows."""
    of = plain.take(at)
    return replace(
        plain,
        images=np.concatenate([plain.images, crops]),
        labels=np.concatenate([plain.labels, of.labels]),
        names=plain.names + tuple(packed.ALIGNED + name for name in of.names),
        votes=None if plain.votes is None or of.votes is None else np.concatenate([plain.votes, of.votes]),
        sources=None if plain.sources is None or of.sources is None else np.concatenate([plain.sources, of.sources]),
    )


def provenance(dataset: packed.Dataset, plain: Split, at: NDArray[np.int64], seed: int) -> Mapping[str, Any]:
    """That of the data set, and how the added crops were made."""
    about = {
        "detector": DETECTOR,
        "landmarks": [list(point) for point in FER2013_LANDMARKS],
        "images": {"test": 0, "train": len(at), "validation": 0},
        "images_without_a_face": {"test": 0, "train": len(plain) - len(at), "validation": 0},
        "added": True,
        "photos": {"backgrounds": BACKGROUNDS, "seed": seed},
    }
    return {**dataset.provenance, "aligned": about}


if __name__ == "__main__":
    main()
