from pathlib import Path
from types import SimpleNamespace
from typing import cast

import cv2
import numpy as np
import pytest
from tests.datasets.conftest import png, write_tree

from mien.bundle import ModelSpec
from mien.datasets.folder import pack_class_folder, read_class_folder, split_groups
from mien.datasets.packed import Split
from mien.errors import DataError
from mien.faces import detect
from mien.images import read_image
from mien.labels import FER7
from mien.pipeline import Analyzer
from mien.preprocess import InputSpec, fit, to_grey
from mien.runtime.predictor import Predictor


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two classes of noise pictures of several sizes, 10 each."""
    generator = np.random.default_rng(0)
    files = {}
    for name in ("Cat", "dog"):
        for number in range(10):
            coarse = generator.integers(0, 256, (6, 6), np.uint8)
            files[f"{name}/{number}.png"] = png(
                np.asarray(cv2.resize(coarse, (60 + number, 50), interpolation=cv2.INTER_CUBIC), np.uint8)
            )
    return write_tree(tmp_path / "pets", files)


def test_any_labels(pets: Path) -> None:
    write_tree(pets, {".DS_Store": b"", "Cat/Thumbs.db": b"", "dog/notes.txt": b"", "stray.png": b""})
    folder = read_class_folder(pets)
    assert folder.labels == ("Cat", "dog")
    assert [path.parent.name for path in folder.paths] == ["Cat"] * 10 + ["dog"] * 10
    assert folder.indices.tolist() == [0] * 10 + [1] * 10
    assert folder.skipped == {"system file": 2, "not an image": 1, "outside the class folders": 1}


@pytest.mark.parametrize(("names", "labels", "expected"), [
    pytest.param(("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise"), None, FER7, id="all seven"),
    pytest.param(("sad", "happy"), None, ("happy", "sad"), id="two of them are labels of their own"),
    pytest.param(("sadness", "happy"), FER7, FER7, id="a part of given labels"),
])  # fmt: skip
def test_labels(
    tmp_path: Path, names: tuple[str, ...], labels: tuple[str, ...] | None, expected: tuple[str, ...]
) -> None:
    root = write_tree(tmp_path / "faces", {f"{name}/a.png": b"" for name in names})
    folder = read_class_folder(root, labels)
    assert folder.labels == expected
    assert [path.parent.name for path in folder.paths] == sorted(names)


@pytest.mark.parametrize(("files", "labels", "message"), [
    pytest.param([], None, "no images in class folders", id="empty"),
    pytest.param(["a.png"], None, "no images in class folders", id="no sub-folders"),
    pytest.param(["cat/a.png", "dog/a.txt"], None, "class folder dog has no images", id="a class without images"),
    pytest.param(["cat/a.png", "sad/a.png"], FER7, "cat is no known class", id="unknown class"),
    pytest.param(["train/sad/a.png", "test/sad/a.png"], None, "holds splits, not classes", id="a split tree"),
    pytest.param(["test/sad/a.png", "val/sad/a.png"], None, "test, val, and none called train", id="no train"),
    pytest.param(["train/sad/a.png", "val/sad/a.png", "validation/sad/a.png"], None,
                 "two folders of the validation split, val and validation", id="one split twice"),
    pytest.param(["sad/a.png"], None, "one class only, sad", id="one class"),
])  # fmt: skip
def test_folders_that_are_refused(
    tmp_path: Path, files: list[str], labels: tuple[str, ...] | None, message: str
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(DataError, match=message):
        read_class_folder(write_tree(root, dict.fromkeys(files, b"")), labels)


@pytest.mark.parametrize(("files", "message"), [
    pytest.param(["test/sad/a.png", "validation/happy/a.png"], "none called train", id="no train"),
    pytest.param(["train/sad/a.png", "val/sad/a.png", "valid/sad/a.png"], "val and valid: join them", id="twice"),
])  # fmt: skip
def test_pack_opens_no_image_of_splits_that_it_refuses(
    tmp_path: Path, files: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_tree(tmp_path / "root", dict.fromkeys(files, b""))
    monkeypatch.setattr("mien.datasets.folder.read_image", lambda path: pytest.fail(f"opened {path}"))
    with pytest.raises(DataError, match=message):
        pack_class_folder(root, labels=("sad", "happy"))


def test_classes_may_be_called_as_splits_are(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "root", {"valid/a.png": b"", "invalid/a.png": b""})
    assert read_class_folder(root).labels == ("invalid", "valid")


def test_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        read_class_folder(tmp_path / "absent")


def test_copies_stay_on_one_side(pets: Path) -> None:
    for number in range(4):  # exact copies, JPEG and scaled ones
        original = cv2.imread(str(pets / f"Cat/{number}.png"), cv2.IMREAD_GRAYSCALE)
        assert original is not None
        (pets / f"Cat/{number}-copy.png").write_bytes((pets / f"Cat/{number}.png").read_bytes())
        cv2.imwrite(str(pets / f"Cat/{number}-jpeg.jpg"), original, [cv2.IMWRITE_JPEG_QUALITY, 60])
        cv2.imwrite(str(pets / f"Cat/{number}-large.png"), cv2.resize(original, (120, 100)))
    every = [path.relative_to(pets).as_posix() for path in read_class_folder(pets).paths]
    for seed in range(5):
        packed = pack_class_folder(pets, validation_ratio=0.3, seed=seed)
        names = [packed.split(side).names for side in ("train", "validation")]
        assert sorted([*names[0], *names[1]]) == sorted(every)
        sides = [{Path(name).stem.split("-")[0] for name in side if name.startswith("Cat/")} for side in names]
        assert not sides[0] & sides[1]


def test_split_is_drawn_from_the_seed(pets: Path) -> None:
    first, again, other = (pack_class_folder(pets, seed=seed).split("validation") for seed in (1, 1, 2))
    assert first.names == again.names != other.names
    assert first.labels.tolist() == [0, 0, 1, 1]  # 20 % of each class


@pytest.mark.parametrize(("groups", "ratio", "sizes"), [
    pytest.param(list(range(10)), 0.2, {2}, id="no copies"),
    pytest.param([0, 0, 0, 0, 0, 5, 6, 7, 8, 9], 0.2, {1, 2, 5}, id="one large group goes as a whole"),
    pytest.param([0] * 9 + [9], 0.2, {1, 9}, id="two groups, one for each side"),
    pytest.param(list(range(10)), 0.01, {1}, id="never none"),
    pytest.param(list(range(10)), 0.99, {9}, id="never all"),
])  # fmt: skip
def test_group_sizes(groups: list[int], ratio: float, sizes: set[int]) -> None:
    labels, numbers = np.zeros(10, np.int64), np.array(groups, np.int64)
    for seed in range(20):
        validates = split_groups(labels, numbers, ("cat",), validation_ratio=ratio, seed=seed)
        assert validates.sum() in sizes
        assert not set(numbers[validates].tolist()) & set(numbers[~validates].tolist())


@pytest.mark.parametrize(("groups", "ratio", "error"), [
    ([0, 0, 0], 0.2, DataError), ([0, 1, 2], 0.0, ValueError), ([0, 1, 2], 1.0, ValueError),
])  # fmt: skip
def test_splits_that_are_refused(groups: list[int], ratio: float, error: type[Exception]) -> None:
    with pytest.raises(error):
        split_groups(np.zeros(3, np.int64), np.array(groups, np.int64), ("cat",), validation_ratio=ratio)


def test_pack(pets: Path) -> None:
    write_tree(pets, {"dog/broken.jpg": b"no picture"})
    data = pack_class_folder(pets, (24, 32))
    train, validation = data.split("train"), data.split("validation")
    assert (len(train), len(validation)) == (16, 4)
    assert train.images.shape == (16, 24, 32)
    assert {"Cat", "dog"} == {name.split("/")[0] for name in validation.names}
    assert len(data.provenance["unreadable"]) == 1
    with pytest.raises(DataError, match="the test split is empty: it needs images in pets/test"):
        data.split("test")


def test_pack_keeps_splits_that_are_there(cartoon_faces: Split, tmp_path: Path) -> None:
    files = {f"{split}/{label}/{row}.png": png(cartoon_faces.images[row])
             for split, start in (("train", 0), ("val", 7)) for row, label in enumerate(FER7, start)}  # fmt: skip
    data = pack_class_folder(write_tree(tmp_path / "faces", files))
    assert data.labels == FER7
    for split, start in (("train", 0), ("validation", 7)):
        assert np.array_equal(data.split(split).images, cartoon_faces.images[start : start + 7])


def test_pack_without_a_readable_image(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "faces", {"a/x.png": b"-", "b/x.png": b"-"})
    with pytest.raises(DataError, match="none of its 2 images can be read"):
        pack_class_folder(root)


@pytest.mark.parametrize("side", [24, 48, 64])
def test_own_images_train_as_they_are_served(side: int, tmp_path: Path) -> None:
    """Pixel for pixel what `--detector none` cuts, from colour pictures of any size that are no squares."""
    spec = ModelSpec(name="mine", labels=("cat", "dog"), input=InputSpec(size_hw=(side, side)))
    noise = np.random.default_rng(0)
    shapes = [(96, 96), (60, 30), (30, 61), (200, 151), (20, 48), (48, 48)]
    coarse = {f"{label}/{height}x{width}.png": noise.integers(0, 256, (8, 8, 3), np.uint8)
              for label in spec.labels for height, width in shapes}  # fmt: skip
    sizes_wh = [(width, height) for height, width in shapes] * 2
    files = {name: png(cv2.resize(rgb, wh)) for (name, rgb), wh in zip(coarse.items(), sizes_wh, strict=True)}
    root = write_tree(tmp_path / "pets", files)
    cut = Analyzer(cast("Predictor", SimpleNamespace(spec=spec)), detect.create("none"))
    for split in pack_class_folder(root, (side, side)).splits.values():
        for name, image in zip(split.names, split.images, strict=True):
            picture = read_image(root / name)
            served = cut.crops(picture, cut.detector.detect([picture])[0])
            np.testing.assert_array_equal(image, to_grey(served)[0], err_msg=name)


def test_images_of_the_right_size_stay_as_they_are(cartoon_faces: Split) -> None:
    for image in cartoon_faces.images[:7]:
        assert np.array_equal(fit(image, (48, 48)), image)


def test_thin_images_pack() -> None:
    assert fit(np.full((1, 3000), 7, np.uint8), (48, 48)).tolist() == [[7] * 48] * 48
