"""The table: a row a face, and a row for each picture that shows none or cannot be read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mien.files import unicode_of
from mien.results import Face

HEAD = (("source", pa.string()), ("face", pa.int32()), ("error", pa.string()))
PLACE = (
    *((name, pa.int32()) for name in ("width", "height")),
    *((name, pa.float32()) for name in ("left", "top", "right", "bottom", "score")),
    ("landmarks", pa.list_(pa.float32())),
)
ANSWER = (("emotion", pa.string()), ("confidence", pa.float32()), ("uncertain", pa.bool_()))
QUALITY = tuple((name, pa.float32()) for name in ("size_px", "blur", "tilt_deg", "turn_ratio"))
PROVENANCE = ("model", "model_sha256", "mien_version", "detector", "parameters")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scored:
    """A picture after analysis: its faces, or why there is no answer."""

    source: str
    width: int | None = None
    height: int | None = None
    faces: tuple[Face, ...] = ()
    error: str | None = None


def schema_of(labels: Sequence[str]) -> pa.Schema:
    """Columns in order; docs/batch.md describes them."""
    probabilities = tuple((label, pa.float32()) for label in labels)
    provenance = tuple((name, pa.string()) for name in PROVENANCE)
    return pa.schema([*HEAD, *PLACE, *ANSWER, *probabilities, *QUALITY, *provenance])


def table_of(pictures: Sequence[Scored], schema: pa.Schema, provenance: Mapping[str, str]) -> pa.Table:
    """Rows of the pictures in their order, faces in the detector's; every row names what produced it."""
    rows = [{**row, **provenance} for picture in pictures for row in _rows(picture)]
    return pa.Table.from_pylist(rows, schema=schema)


def _rows(picture: Scored) -> list[Row]:
    about = {"source": unicode_of(picture.source), "width": picture.width, "height": picture.height}
    if not picture.faces:
        return [{**about, "error": None if picture.error is None else unicode_of(picture.error)}]
    return [{**about, "face": number, **_face(face)} for number, face in enumerate(picture.faces, start=1)]


def _face(face: Face) -> Row:
    left, top, right, bottom = face.box_xyxy.tolist()
    quality = face.quality
    return {
        **{"left": left, "top": top, "right": right, "bottom": bottom, "score": face.score},
        "landmarks": None if face.landmarks is None else face.landmarks.reshape(-1).tolist(),
        **{"emotion": face.emotion, "confidence": face.confidence, "uncertain": face.uncertain},
        **dict(zip(face.labels, face.probabilities.tolist(), strict=True)),
        **{"size_px": quality.size_px, "blur": quality.blur},
        **{"tilt_deg": quality.tilt_deg, "turn_ratio": quality.turn_ratio},
    }
