"""Label sets, and the spellings that data sets in the wild use for them."""

from collections.abc import Sequence

from mien.errors import DataError

FER7 = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""The seven classes of FER-2013, in alphabetical order: the order of every probability vector in mien."""

FERPLUS8 = (*FER7, "contempt")
"""FER7 and the class that FER+ adds."""

FER2013_CSV = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Class of each code 0-6 in the `emotion` column of the original `fer2013.csv`."""

FERPLUS_COLUMNS = (
    "neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt", "unknown", "NF",
)  # fmt: skip
"""Meaning of the ten vote columns of `fer2013new.csv`, in file order; NF is "not a face"."""

ALIASES = {
    "anger": "angry",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "scared": "fear",
    "happiness": "happy",
    "joy": "happy",
    "calm": "neutral",
    "neutrality": "neutral",
    "sadness": "sad",
    "surprised": "surprise",
    "suprise": "surprise",
}


def canonical(spelling: str, labels: Sequence[str] = FER7) -> str:
    """The label of `labels` that a folder or column name means: "Anger" is "angry"; a label itself is that label.

    Raises:
        DataError: no label is spelt like that.
    """
    if spelling in labels:  # labels of one's own may differ in their capitals alone
        return spelling
    folded = {label.casefold(): label for label in labels}
    name = spelling.strip().casefold()
    name = name if name in folded else ALIASES.get(name, name)
    if name not in folded:
        raise DataError(f"{spelling!r} is no known class: use one of {', '.join(labels)}")
    return folded[name]
