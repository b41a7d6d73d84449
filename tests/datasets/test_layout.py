import pytest

from mien.datasets.layout import Item, list_items, skip_reason, usage_of
from mien.errors import DataError
from mien.labels import FER7, canonical


@pytest.mark.parametrize(("path", "reason"), [
    pytest.param("train/happy/Training_1.jpg", None, id="image"),
    pytest.param("train/happy/A.JPEG", None, id="ending in capitals"),
    pytest.param("train/.DS_Store", "system file", id="macOS"),
    pytest.param("train/happy/._Training_1.jpg", "system file", id="macOS resource fork"),
    pytest.param("__MACOSX/train/happy/Training_1.jpg", "system file", id="macOS archive folder"),
    pytest.param("train/happy/Thumbs.db", "system file", id="Windows"),
    pytest.param("train/.ipynb_checkpoints/a.png", "system file", id="hidden folder"),
    pytest.param("train/happy/notes.txt", "not an image", id="text"),
    pytest.param("README", "not an image", id="no ending"),
])  # fmt: skip
def test_skip_reason(path: str, reason: str | None) -> None:
    assert skip_reason(path) == reason


@pytest.mark.parametrize(("name", "usage"), [
    ("Training_1.jpg", "Training"), ("PublicTest_1.jpg", "PublicTest"), ("PrivateTest_1.jpg", "PrivateTest"),
    ("Training.jpg", None), ("selfie_1.jpg", None), ("_Training_1.jpg", None),
])  # fmt: skip
def test_usage_of(name: str, usage: str | None) -> None:
    assert usage_of(name) == usage


@pytest.mark.parametrize(("usage", "folder", "protocol", "split"), [
    ("Training", "train", "icml", "train"),
    ("PublicTest", "test", "icml", "validation"),
    ("PrivateTest", "test", "icml", "test"),
    ("PublicTest", "test", "case-study", "test"),
    ("PrivateTest", "test", "case-study", "validation"),
    ("PrivateTest", "validation", "icml", "test"),
    (None, "test", "icml", "test"),
    (None, "test", "case-study", "test"),
    (None, None, "icml", "train"),
])  # fmt: skip
def test_split_follows_the_file_name_then_the_folder(
    usage: str | None, folder: str | None, protocol: str, split: str
) -> None:
    assert Item("x", 0, usage, folder).split(protocol) == split


@pytest.mark.parametrize(("paths", "expected"), [
    pytest.param(["train/happy/a.png"], {"train/happy/a.png": ("happy", "train")}, id="Kaggle"),
    pytest.param(["happy/a.png"], {"happy/a.png": ("happy", None)}, id="plain classes"),
    pytest.param(["a/b/test/sad/a.png"], {"a/b/test/sad/a.png": ("sad", "test")}, id="two levels down"),
    pytest.param(["train/train/sad/a.png"], {"train/train/sad/a.png": ("sad", "train")}, id="split twice"),
    pytest.param(["train/faces/sad/a.png"], {"train/faces/sad/a.png": ("sad", "train")}, id="folder inside the split"),
    pytest.param(["val/Sadness/a.png"], {"val/Sadness/a.png": ("sad", "validation")}, id="other spellings"),
    pytest.param(["sad/x/a.png"], {"sad/x/a.png": ("sad", None)}, id="folder inside the class"),
    pytest.param(["sad/a.png", "test/fear/b.png"],
                 {"sad/a.png": ("sad", None), "test/fear/b.png": ("fear", "test")}, id="classes and a split"),
    pytest.param(["train/sad/a.png", "train/b.png", "c.png", "docs/d.png"],
                 {"train/sad/a.png": ("sad", "train")}, id="images beside the classes"),
    pytest.param(["sad/test/a.png"], {"sad/test/a.png": ("sad", "test")}, id="a split inside the class"),
    pytest.param(["train/x/sad/a.png", "test/y/sad/b.png"],
                 {"train/x/sad/a.png": ("sad", "train"), "test/y/sad/b.png": ("sad", "test")}, id="deep in splits"),
    pytest.param([], {}, id="nothing"),
])  # fmt: skip
def test_class_folders_are_found(paths: list[str], expected: dict[str, tuple[str, str | None]]) -> None:
    listing = list_items(paths, "source")
    assert {item.path: (FER7[item.label], item.folder_split) for item in listing.items} == expected
    assert sum(listing.skipped.values()) == len(paths) - len(expected)


@pytest.mark.parametrize(("path", "root", "icml", "case_study"), [
    pytest.param("Training/angry/1.jpg", "", "train", "train", id="Training"),
    pytest.param("PublicTest/angry/1.jpg", "", "validation", "test", id="PublicTest"),
    pytest.param("PrivateTest/angry/1.jpg", "", "test", "validation", id="PrivateTest"),
    pytest.param("fer/privatetest/angry/1.jpg", "", "test", "validation", id="small letters, a level down"),
    pytest.param("angry/PublicTest/1.jpg", "", "validation", "test", id="inside the class"),
    pytest.param("angry/1.jpg", "PrivateTest", "test", "validation", id="the root itself"),
    pytest.param("PublicTest/angry/PrivateTest_1.jpg", "", "test", "validation", id="the file name goes first"),
])  # fmt: skip
def test_folders_named_for_the_parts_decide(path: str, root: str, icml: str, case_study: str) -> None:
    (item,) = list_items([path], "source", root_name=root).items
    assert (item.split("icml"), item.split("case-study")) == (icml, case_study)


@pytest.mark.parametrize(("paths", "named"), [
    pytest.param(["train/sad/1.jpg", "dev/sad/2.jpg"], "dev", id="beside train"),
    pytest.param(["Training/sad/1.jpg", "PublicTest/sad/2.jpg", "holdout/sad/3.jpg"], "holdout", id="beside parts"),
    pytest.param(["fer/test/sad/1.jpg", "more/sad/2.jpg"], "more", id="on another level"),
])  # fmt: skip
def test_classes_of_no_split_beside_splits_are_refused(paths: list[str], named: str) -> None:
    with pytest.raises(DataError, match=f"{named} does not: rename it to train, validation or test"):
        list_items(paths, "source")


@pytest.mark.parametrize("paths", [
    pytest.param(["train/happy/a.png", "train/bored/b.png"], id="with images"),
    pytest.param(["train/bored/b.png"], id="alone in its split"),
    pytest.param(["happy/a.png", "bored/b.png"], id="without splits"),
    pytest.param(["train/happy/a.png", "train/bored/"], id="empty"),
    pytest.param(["train/happy/a.png", "train/bored/notes.txt", "train/bored/"], id="with a text only"),
])  # fmt: skip
def test_unknown_class_is_named(paths: list[str]) -> None:
    with pytest.raises(DataError, match="bored is no known class: rename it to one of angry"):
        list_items(paths, "source")


def test_labels_of_ones_own_keep_their_capitals() -> None:
    items = list_items(["Cat/a.png", "dog/b.png"], "source", labels=("Cat", "dog")).items
    assert [item.label for item in items] == [0, 1]


@pytest.mark.parametrize(("spelling", "labels", "expected"), [
    pytest.param("Anger", FER7, "angry", id="alias"),
    pytest.param(" SAD ", FER7, "sad", id="capitals and spaces"),
    pytest.param("Other", ("Happy", "Other"), "Other", id="a label with a capital"),
    pytest.param("other", ("Happy", "Other"), "Other", id="a label with a capital, spelt without"),
    pytest.param("STRASSE", ("Straße", "Weg"), "Straße", id="casefolded"),
    pytest.param("cat", ("Cat", "cat"), "cat", id="labels that differ in capitals alone"),
    pytest.param("anger", ("Anger", "joy"), "Anger", id="a label that mien calls otherwise"),
])  # fmt: skip
def test_canonical(spelling: str, labels: tuple[str, ...], expected: str) -> None:
    assert canonical(spelling, labels) == expected
