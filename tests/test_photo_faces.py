"""benchmarks/photo_faces.py: what is added is what serving cuts, with the label of the face that it shows."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.bundle import FER2013_LANDMARKS
from mien.datasets import packed
from mien.faces import align, detect
from mien.images import read_image
from mien.labels import FER7
from mien.preprocess import to_grey
from mien.training import records, results
from tests.drawing import draw_split
from tests.scripts import benchmark

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def photo_faces() -> Iterator[ModuleType]:
    pytest.importorskip("skimage")
    with benchmark("photo_faces") as script:
        yield script


@pytest.fixture(scope="module")
def crop(grace_hopper: Path) -> NDArray[np.uint8]:
    """A real face, 48 px, as serving cuts it."""
    photo = read_image(grace_hopper)
    (found,) = detect.create("centerface").detect([photo])
    assert found.landmarks is not None
    return to_grey(align.align_crops(photo, found.landmarks[:1], FER2013_LANDMARKS, (48, 48)))[0]


def test_a_face_in_a_photo_comes_back_as_it_was(photo_faces: ModuleType, crop: NDArray[np.uint8]) -> None:
    blank = np.full((48, 48), 128, np.uint8)
    crops, at = photo_faces.cut(np.stack([blank, crop, crop[:, ::-1]]), seed=0, workers=1)
    assert at.tolist() == [1, 2]  # on none of the backgrounds is a face of that size there
    assert crops.shape == (2, 48, 48)
    middle = (slice(8, 40), slice(8, 40))
    smooth = cv2.GaussianBlur(crop, (0, 0), 1)  # photos are enlarged and cut again
    for found, like in zip(crops, (smooth, smooth[:, ::-1]), strict=True):
        assert np.corrcoef(found[middle].ravel(), like[middle].ravel())[0, 1] > 0.8


def test_other_photos_with_another_seed_and_the_same_with_the_same(
    photo_faces: ModuleType, crop: NDArray[np.uint8]
) -> None:
    first, again, other = (photo_faces.cut(crop[None], seed=seed, workers=1)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_benchmarks_own_backgrounds_are_not_trained_on(photo_faces: ModuleType) -> None:
    assert not set(photo_faces.BACKGROUNDS) & set(photo_faces.pipeline.BACKGROUNDS)


def test_the_surroundings_hold_the_face_where_it_was(photo_faces: ModuleType) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    for centre_xy, side_px in (((320.4, 200.6), 90.0), ((70.0, 410.0), 130.0), ((600.0, 40.0), 60.0)):
        near = photo_faces._near(photo_faces.pipeline.Pasted(photo, centre_xy, side_px))
        x, y = (int(centre) for centre in centre_xy)
        u, v = (int(centre + 1e-6) for centre in near.centre_xy)
        np.testing.assert_array_equal(near.photo[v, u], photo[y, x])
        assert max(near.photo.shape[:2]) <= 2 * side_px + 2


def test_added_crops_stand_behind_with_label_votes_and_name(photo_faces: ModuleType) -> None:
    plain = draw_split(2, seed=1, votes=True)
    plain = replace(plain, names=tuple(f"train/{i}.jpg" for i in range(len(plain))))
    at = np.array([3, 0, 7])
    both = photo_faces.added(plain, 255 - plain.images[at], at)
    assert len(both) == len(plain) + 3
    np.testing.assert_array_equal(both.images[: len(plain)], plain.images)
    np.testing.assert_array_equal(both.images[len(plain) :], 255 - plain.images[at])
    assert both.labels[len(plain) :].tolist() == plain.labels[at].tolist()
    assert both.votes is not None
    assert plain.votes is not None
    np.testing.assert_array_equal(both.votes[len(plain) :], plain.votes[at])
    assert len(both.drop({plain.names[3]})) == len(both) - 2  # the crop goes with its image
    np.testing.assert_array_equal(both.without_added().images, plain.images)


def test_a_run_on_such_a_set_names_it(photo_faces: ModuleType, tmp_path: Path) -> None:
    """What the set says of itself is what records attribute runs by."""
    plain = draw_split(2, seed=1)
    about = photo_faces.provenance(packed.Dataset((), {}, {"mien": "0"}), plain, np.array([1]), 5)
    both = photo_faces.added(plain, plain.images[:1], np.array([1]))
    packed.save(packed.Dataset(FER7, {"train": both, "validation": plain}, about), tmp_path / "set")
    kept = packed.load(tmp_path / "set").provenance
    assert kept["mien"] == "0"
    (path,) = (REPOSITORY / "results" / "runs").glob("resnet9-narrow-photos.json")
    record = next(one for one in records.read(path.parent) if one.name == path.stem)
    data = {**record.about["data"], "aligned": kept["aligned"]}
    one = replace(record, about={**record.about, "data": data})
    assert results.prepared(one) == "data/fer2013-and-photos"
    assert results.origin(one) == results.Origin("resnet9-narrow-photos", {})  # the data that the recipe is made for
    plainly = replace(record, about={**record.about, "data": {**data, "aligned": {**kept["aligned"], "photos": None}}})
    assert results.origin(plainly).changes == {"aligned crops": "added"}


def test_aligned_images_are_no_images_to_paste(photo_faces: ModuleType, tmp_path: Path) -> None:
    plain = draw_split(2, seed=1)
    aligned = {"aligned": {"images": {"train": 14}}}
    packed.save(packed.Dataset(FER7, {"train": plain, "validation": plain}, aligned), tmp_path / "set")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["photo_faces.py", str(tmp_path / "set"), str(tmp_path / "out")])
        with pytest.raises(SystemExit, match="2"):
            photo_faces.main()
    assert not (tmp_path / "out").exists()
