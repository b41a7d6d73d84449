"""The figures of FER-2013 itself, where it is at hand."""

from pathlib import Path

import numpy as np
import pytest

from mien.datasets import packed
from mien.datasets.download import FERPLUS_SHA256, FERPLUS_SIZE
from mien.datasets.prepare import PrepareOptions, prepare
from mien.hub import sha256_of
from mien.labels import FER7, FERPLUS_COLUMNS

TRAIN = (3995, 436, 4097, 7215, 4965, 4830, 3171)
PUBLIC_TEST = (467, 56, 496, 895, 607, 653, 415)
DIGESTS = {
    "train": "fe3f1942bd24dbec09bf18dcc6133bc3df83f9bad40864ddf635586b88476665",
    "validation": "c5784b66f98e18debac3b342b16c70b981c4c8887cd78cbe2589536ccda52f8b",
}


@pytest.mark.fer2013
def test_counts_and_digests(fer2013_archive: Path, tmp_path: Path) -> None:
    ferplus = fer2013_archive.with_name("fer2013new.csv")
    report = prepare([fer2013_archive], tmp_path / "out", options=PrepareOptions(ferplus=ferplus))
    assert report.counts["train"] == dict(zip(FER7, TRAIN, strict=True))
    assert report.counts["validation"] == dict(zip(FER7, PUBLIC_TEST, strict=True))
    assert not report.unreadable
    data = packed.load(tmp_path / "out")
    assert {name: data.split(name).digest for name in DIGESTS} == DIGESTS
    joined = report.provenance["ferplus"]["images_with_votes"]
    assert (joined["train"], joined["validation"]) == (28_560, 3_579)
    assert report.provenance["ferplus"]["sha256"] == FERPLUS_SHA256 == sha256_of(ferplus)
    assert ferplus.stat().st_size == FERPLUS_SIZE
    assert plurality_agrees(data.split("train")) == pytest.approx(0.635, abs=0.01)  # "about 63-64 %"
    images = np.concatenate([data.split(name).images.reshape(-1, 48 * 48) for name in DIGESTS])
    assert len(np.unique(images, axis=0)) == 30_766


def plurality_agrees(split: packed.Split) -> float:
    """Share of the images whose most frequent FER+ vote is the FER-2013 label."""
    assert split.votes is not None
    voted = split.votes.any(axis=1)
    winners = [FERPLUS_COLUMNS[column] for column in split.votes[voted].argmax(axis=1)]
    return float(np.mean([FER7[label] == winner for label, winner in zip(split.labels[voted], winners, strict=True)]))
