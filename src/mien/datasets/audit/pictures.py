"""Images that show nothing, or no face."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from mien.datasets.audit.findings import Finding, Problem, Suggestion
from mien.datasets.audit.pool import Pool
from mien.preprocess import to_grey

FLAT_DEVIATION = 8.0
"""Standard deviation, in grey levels of 255, under which an image counts as almost constant. FER-2013's training
images have none between 4.2 and 9.1; what lies under shows nothing, what lies over are faces in poor light."""

FindsFace = Callable[[NDArray[np.uint8]], bool]
"""A grey crop `(H, W)` to whether it shows a face."""


def find_flat(pool: Pool) -> Iterator[Finding]:
    """Constant and almost constant images, each colour by itself."""
    for i, image in enumerate(pool.images()):
        deviation = float(image.std(axis=(0, 1)).max())
        if deviation >= FLAT_DEVIATION:
            continue
        problem = Problem.CONSTANT if (image == image[0, 0]).all() else Problem.ALMOST_CONSTANT
        note = (
            f"all {image[0, 0].tolist()}"
            if problem is Problem.CONSTANT
            else f"standard deviation {deviation:.1f} of 255"
        )
        yield Finding(problem=problem, image=i, suggestion=Suggestion.EXCLUDE, note=note)


def find_faceless(
    pool: Pool, finds_face: FindsFace, *, progress: Callable[[int, int], None] | None = None
) -> Iterator[Finding]:
    """Images in which the detector finds no face. It misses faces too, so they are to be looked at."""
    for i, image in enumerate(pool.images()):
        if not finds_face(to_grey(np.asarray(image)[None])[0]):
            yield Finding(problem=Problem.NO_FACE_FOUND, image=i, suggestion=Suggestion.REVIEW)
        if progress is not None:
            progress(i + 1, len(pool))
