"""The REST API: each view decodes, makes one call, encodes."""

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
from flask import Response, current_app, g, json, jsonify, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel

from mien.errors import ImageError
from mien.results import Prediction
from mien.web import schemas, service
from mien.web.edge import ARRIVED, WORKED_S
from mien.web.errors import Problem, too_many_images, unreadable
from mien.web.state import State
from mien.web.uploads import Upload, check_files, check_multipart

ANALYSIS = Tag(name="analysis", description="Faces and the expressions that they show.")
OPERATIONS = Tag(name="operations", description="For those who run the service.")
ERRORS: dict[str | int, type[BaseModel] | dict[Any, Any] | None] = dict.fromkeys(
    ("400", "401", "413", "415", "422", "429", "503"), schemas.Problem
)

blueprint = APIBlueprint("api", __name__)


def state() -> State:
    """What the app's requests share."""
    found = current_app.extensions["mien"]
    assert isinstance(found, State)
    return found


@blueprint.post(
    "/api/v1/analyze",
    tags=[ANALYSIS],
    summary="Analyse pictures",
    description="Faces of each picture, the detector's surest first, as `mien predict --format json` gives them.",
    operation_id="analyze",
    responses={"200": schemas.Picture, **ERRORS},
)
def analyze(query: schemas.AnalyzeQuery, form: schemas.AnalyzeForm) -> Response:
    """Faces of one or many pictures."""
    shared = state()
    model = shared.model(query.model)
    uploads = [Upload(storage) for storage in form.image]
    if len(uploads) > shared.settings.max_images:
        raise too_many_images(len(uploads), shared.settings.max_images)
    allowance = service.Allowance(shared.settings)
    with _turn(shared, images=len(uploads)):
        analyzer = model.fast if query.detection == "fast" else model.full
        results: list[Prediction] = []
        for index, upload in enumerate(uploads):
            try:
                results.append(service.analyze(analyzer, upload, allowance))
            except ImageError as error:
                raise unreadable(error, index) from error
    _count(results)
    return jsonify([result.to_dict() for result in results])


@blueprint.post(
    "/api/v1/explain",
    tags=[ANALYSIS],
    summary="Explain faces of a picture",
    description="The result of a picture, and for the chosen faces a map of the evidence for each label.",
    operation_id="explain",
    responses={"200": schemas.ExplainedPicture, **ERRORS},
)
def explain(query: schemas.ExplainQuery, form: schemas.ExplainForm) -> Response:
    """Maps of the evidence in the faces of one picture."""
    shared = state()
    model = shared.model(query.model)
    if len(request.files.getlist("image")) > 1:
        raise too_many_images(len(request.files.getlist("image")), 1)
    upload = Upload(form.image)
    allowance = service.Allowance(shared.settings)
    with _turn(shared, images=1):
        try:
            result, explained = service.explain_faces(
                model.fast if query.detection == "fast" else model.full,
                upload,
                allowance,
                method=query.method,
                faces=query.face,
                labels=query.label,
            )
        except ImageError as error:
            raise unreadable(error, 0) from error
    _count([result])
    return jsonify({**result.to_dict(), "explanations": [_explanation(one) for one in explained]})


@blueprint.get(
    "/api/v1/models",
    tags=[ANALYSIS],
    summary="List the loaded models",
    description="The first is the one that answers where a request names none.",
    operation_id="models",
    responses={"200": schemas.Model, "401": schemas.Problem, "422": schemas.Problem, "429": schemas.Problem},
)
def models(query: schemas.NoQuery) -> Response:
    """Loaded models with what they say of themselves."""
    del query  # which has nothing, or the request is refused
    return jsonify([service.describe_model(model) for model in state().models])


@blueprint.get(
    "/healthz",
    tags=[OPERATIONS],
    summary="Is the process alive?",
    operation_id="healthz",
    responses={"200": schemas.Health},
)
def healthz() -> Response:
    """Alive."""
    return jsonify({"status": "ok"})


@blueprint.get(
    "/readyz",
    tags=[OPERATIONS],
    summary="Are the models loaded and warm?",
    operation_id="readyz",
    responses={"200": schemas.Health},
)
def readyz() -> Response:
    """Ready: an app exists only after its models have run once."""
    return jsonify({"status": "ok"})


@blueprint.get(
    "/metrics",
    tags=[OPERATIONS],
    summary="Prometheus metrics of all workers",
    operation_id="metrics",
    responses={"401": schemas.Problem, "429": schemas.Problem},
)
def metrics() -> Response:
    """Requests, latencies, pictures, faces, queue depth."""
    shared = state()
    return Response(shared.metrics.exposition(), content_type=shared.metrics.content_type)


@blueprint.get("/openapi", tags=[OPERATIONS], summary="This document", operation_id="openapi")
def openapi() -> Response:
    """OpenAPI 3.1."""
    return Response(json.dumps(current_app.extensions["mien.openapi"]), content_type="application/json")


@contextmanager
def _turn(shared: State, *, images: int) -> Iterator[None]:
    """Wait for a turn and hold it, for the log and for the client's share.

    Raises:
        Busy: no turn came in time.
    """
    with shared.gate.turn(since=request.environ.get(ARRIVED)) as waited_s:
        _note(waited_s=waited_s, images=images)
        began_s = time.monotonic()
        try:
            yield
        finally:
            request.environ[WORKED_S] = time.monotonic() - began_s


def _explanation(one: service.Explained) -> dict[str, Any]:
    return {
        "face": one.index,
        "crop": _png(one.face.crop),
        "corners": [[round(float(value), 2) for value in point] for point in one.corners_xy],
        "limit": float(f"{one.limit:.6g}"),
        "maps": [heatmap.to_dict() for heatmap in one.maps],
    }


def _png(crop: Any) -> str:
    done, data = cv2.imencode(".png", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))
    assert done, "a crop is a valid picture"
    return "data:image/png;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def _count(results: list[Prediction]) -> None:
    faces = sum(len(result.faces) for result in results)
    state().metrics.images.inc(len(results))
    state().metrics.faces.inc(faces)
    _note(faces=faces)


def _note(**values: float) -> None:
    """Counts and times for the request's line in the log."""
    g.setdefault("notes", {}).update(values)


@blueprint.before_request
def check_form() -> None:
    """Of every server: `mien.web.edge` looks at the kind before a body is read.

    Raises:
        Problem: the body is not multipart/form-data, or has a text where a picture belongs.
    """
    if request.method == "POST":
        check_multipart(request)
        check_files(request)


@blueprint.before_request
def check_repeats() -> None:
    """Refuse to choose between two values of an option, which flask-openapi3 does by forgetting the second.

    Raises:
        Problem: an option that takes one value came more than once.
    """
    for name, values in request.args.lists():
        if name in schemas.SINGLE and len(values) > 1:
            raise Problem(422, f"{name}: given {len(values)} times: give it once")
