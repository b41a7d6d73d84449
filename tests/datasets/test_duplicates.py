from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.datasets import duplicates
from mien.datasets.duplicates import group_ids, near_pairs, perceptual_hashes, thumbnails
from mien.datasets.packed import Split

Grey = NDArray[np.uint8]


def jpeg(image: Grey) -> Grey:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


@pytest.mark.parametrize("change", [
    pytest.param(lambda image: image.copy(), id="exact"),
    pytest.param(jpeg, id="JPEG at quality 50"),
    pytest.param(lambda image: cv2.resize(image, (96, 96)), id="twice the size"),
    pytest.param(lambda image: cv2.convertScaleAbs(image, alpha=0.9, beta=15), id="brighter"),
    pytest.param(lambda image: cv2.GaussianBlur(image, (3, 3), 0), id="blurred"),
])  # fmt: skip
def test_copies_are_found(cartoon_faces: Split, change: Callable[[Grey], Grey]) -> None:
    originals = list(cartoon_faces.images[:14])
    pairs = near_pairs(thumbnails([*originals, *map(change, originals)]))
    groups = group_ids(28, pairs)
    assert groups[:14].tolist() == groups[14:].tolist()


def test_other_images_are_not_copies() -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (300, 8, 8), np.uint8)
    images = [cv2.resize(image, (48, 48), interpolation=cv2.INTER_CUBIC).astype(np.uint8) for image in coarse]
    assert len(near_pairs(thumbnails(images))) == 0


def test_pairs_are_those_of_a_slow_loop() -> None:
    generator = np.random.default_rng(0)
    base = [cv2.resize(generator.integers(0, 256, (6, 6), np.uint8), (48, 48)) for _ in range(20)]
    noisy = [np.clip(image + generator.normal(0, 12, image.shape), 0, 255).astype(np.uint8) for image in base * 3]
    thumbs = thumbnails(noisy)
    hashes = perceptual_hashes(thumbs)
    slow = [
        (i, j)
        for i in range(60)
        for j in range(i + 1, 60)
        if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= 4
        and np.corrcoef(thumbs[i].ravel(), thumbs[j].ravel())[0, 1] > 0.8
    ]
    assert slow
    fast = group_ids(60, near_pairs(thumbs))
    assert fast.tolist() == group_ids(60, np.array(slow, np.int64)).tolist()


def test_copies_behind_an_image_of_the_same_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    first, other = (cv2.resize(generator.integers(0, 256, (6, 6), np.uint8), (48, 48)) for _ in range(2))
    monkeypatch.setattr(duplicates, "perceptual_hashes", lambda thumbs: np.full(len(thumbs), 7, np.uint64))
    thumbs = thumbnails([first, other, other, first, other])
    assert group_ids(5, near_pairs(thumbs)).tolist() == [0, 1, 1, 0, 1]


def test_constant_images_are_copies_of_each_other() -> None:
    images = [np.full((48, 48), value, np.uint8) for value in (0, 0, 255, 128)]
    assert perceptual_hashes(thumbnails(images)).tolist() == [0] * 4
    assert group_ids(4, near_pairs(thumbnails(images))).tolist() == [0] * 4


def test_no_images() -> None:
    assert near_pairs(thumbnails([])).shape == (0, 2)


@pytest.mark.parametrize(("pairs", "expected"), [
    ([], [0, 1, 2, 3, 4]), ([(0, 1), (1, 2)], [0, 0, 0, 3, 4]), ([(3, 4), (1, 3), (0, 4)], [0, 0, 2, 0, 0]),
])  # fmt: skip
def test_groups_are_joined_over_chains(pairs: list[tuple[int, int]], expected: list[int]) -> None:
    assert group_ids(5, np.array(pairs, np.int64).reshape(-1, 2)).tolist() == expected
