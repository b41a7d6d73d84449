"""The API's types, for its OpenAPI document: what requests may say, and what answers hold."""

from typing import Annotated, Any, Literal, get_origin

from flask_openapi3.models.file import FileStorage
from pydantic import BaseModel, ConfigDict, Field

EXAMPLE_FACE: dict[str, Any] = {
    "box_xyxy": [212.4, 88.0, 371.9, 297.5],
    "landmarks": [[252.1, 166.3], [327.0, 163.8], [290.5, 209.9], [260.2, 246.0], [322.7, 243.5]],
    "score": 0.9213,
    "emotion": "happy",
    "confidence": 0.8731,
    "probabilities": {
        **{"angry": 0.0121, "disgust": 0.0032, "fear": 0.0189, "happy": 0.8731},
        **{"neutral": 0.0614, "sad": 0.0107, "surprise": 0.0206},
    },
    "uncertain": False,
    "quality": {"size_px": 159.5, "blur": 0.21, "tilt_deg": -1.9, "turn_ratio": 0.04},
}
EXAMPLE_MODEL: dict[str, Any] = {
    "name": "default",
    "sha256": "3f0c0f6b6ff1f9d3f6bdc6f0d6a5ce0b1f1c6b9d90c7e5e5b1c2a4f9a7d0e112",
    "temperature": 1.21,
    "threshold": 0.45,
    "precision": "fp32",
    "licence": "Apache-2.0",
    "provider": "cpu",
    "detector": "centerface",
    "version": "0.1.0",
}


class Strict(BaseModel):
    """What a request says: a misspelt option must not silently mean the default."""

    model_config = ConfigDict(extra="forbid")


class NoQuery(Strict):
    """No options."""


class AnalyzeQuery(Strict):
    """How pictures are analysed."""

    model: str | None = Field(
        None, max_length=200, description="A name that `/api/v1/models` lists; the first of them if absent."
    )
    detection: Literal["full", "fast"] = Field(
        "full",
        description="`fast` looks for faces on a small copy of the picture: for live pictures, misses small faces.",
    )


class AnalyzeForm(Strict):
    """Pictures to analyse."""

    image: list[FileStorage] = Field(
        description="One or more pictures: JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF, told by their content.",
        min_length=1,
    )


class ExplainQuery(AnalyzeQuery):
    """Which faces are explained, and how."""

    method: Literal["occlusion", "cam"] = Field("occlusion", description="`cam` only where the model lists it.")
    face: list[Annotated[int, Field(ge=0)]] = Field(
        [0], description="Faces to explain, counted from 0 in the order of the result.", max_length=16
    )
    label: list[str] = Field([], description="Labels to explain; all if absent.", max_length=16)


SINGLE = frozenset(
    name for name, field in ExplainQuery.model_fields.items() if get_origin(field.annotation) is not list
)
"""Options that a query may have once."""


class ExplainForm(Strict):
    """The picture to explain."""

    image: FileStorage = Field(description="One picture.")


class Quality(BaseModel):
    """How fit a face is for recognition."""

    size_px: float = Field(description="Shorter side of the box.")
    blur: float = Field(description="0 sharp .. 1 no detail left.", ge=0, le=1)
    tilt_deg: float | None = Field(description="Roll in the picture plane, clockwise positive.")
    turn_ratio: float | None = Field(description="0 frontal; towards -1 and +1 in profile.")


class Face(BaseModel):
    """One face and the expression that it shows."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE_FACE})

    box_xyxy: list[float] = Field(
        description="Left, top, right, bottom in pixels of the upright picture.", min_length=4, max_length=4
    )
    landmarks: list[list[float]] | None = Field(
        description="Eyes, nose, corners of the mouth, left to right as seen: five [x, y]."
    )
    score: float = Field(description="The detector's, 0..1.")
    emotion: str = Field(description="The most probable label.")
    confidence: float = Field(description="Its probability.", ge=0, le=1)
    probabilities: dict[str, float] = Field(description="Calibrated probability of each label; they sum to 1.")
    uncertain: bool = Field(description="The confidence is under the model's threshold.")
    quality: Quality


class ModelInfo(BaseModel):
    """What produced a result."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE_MODEL})

    name: str
    sha256: str = Field(description="Of the .onnx file.")
    temperature: float = Field(description="Probabilities are softmax(logits / temperature).")
    threshold: float = Field(description="A lower confidence is called uncertain.")
    precision: str
    licence: str = Field(description="Of the weights.")
    provider: str = Field(description="What ran it: cpu, openvino, cuda or tensorrt.")
    detector: str
    version: str = Field(description="Of mien.")


class Picture(BaseModel):
    """All faces of one picture: an entry of `mien predict --format json`."""

    source: str = Field(description="The file's name as it was sent, without folders.")
    width: int
    height: int
    faces: list[Face]
    model: ModelInfo


class Heatmap(BaseModel):
    """Where the evidence for one label lies."""

    method: str
    label: str
    probability: float | None = Field(description="Of the label.")
    meaning: str = Field(description="Of `values` times `scale`.")
    scale: float = Field(description="What 1.0 stands for in the method's own unit.")
    shape_hw: list[int] = Field(
        description="Height and width of the map: those of the crop.", min_length=2, max_length=2
    )
    values: list[list[float]] = Field(
        description="Rows of numbers in [-1, 1]; above 0 speaks for the label, below against."
    )


class Explanation(BaseModel):
    """The maps of one face."""

    face: int = Field(description="Place in `faces`.")
    crop: str = Field(description="The crop that the network saw, a PNG as data URI.")
    corners: list[list[float]] = Field(
        description="Of the crop in the picture: four [x, y], top left first, clockwise."
    )
    limit: float = Field(description="Magnitude of value times scale that gets the full colour, common to the maps.")
    maps: list[Heatmap]


class ExplainedPicture(Picture):
    """A result and the maps of the chosen faces."""

    explanations: list[Explanation]


class InputInfo(BaseModel):
    """Geometry of the network's input."""

    height: int
    width: int
    channels: int


class Model(BaseModel):
    """A loaded model: what it knows, what it was trained on, how well it does."""

    name: str = Field(description="What requests call it.")
    labels: list[str]
    methods: list[str] = Field(description="Of explanation.")
    input: InputInfo
    training: dict[str, Any] = Field(description="Recipe, data and versions, as the training noted them.")
    metrics: dict[str, Any] = Field(description="As `mien evaluate` measured them: accuracy, calibration error, ...")
    model: ModelInfo


class Problem(BaseModel):
    """An error: problem+json of RFC 9457."""

    type: str = Field(
        description="Stable; starts with `urn:mien:problem:`.", examples=["urn:mien:problem:unreadable-image"]
    )
    title: str = Field(examples=["A picture cannot be read"])
    status: int = Field(examples=[422])
    detail: str = Field(
        examples=["notes.txt: no picture that mien knows: give a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file"]
    )
    request_id: str = Field(description="Also in the X-Request-ID header and in the server's log.")
    image: int | None = Field(None, description="For pictures: which of the request's, counted from 0.")


class Health(BaseModel):
    """State of the worker that answered."""

    status: Literal["ok"]
