"""Private mode: what a browser needs to run the default model and the detector by itself.

ONNX Runtime's WebAssembly build comes from the npm registry when mien is built (`make private`); an installation
without it has no private mode, and its pages do not mention one.
"""

from functools import cache
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, send_file, url_for

from mien import __version__, hub
from mien.faces import centerface, detect, scan
from mien.faces.detections import SAME_FACE_IOU
from mien.runtime.predictor import ModelInfo, Predictor
from mien.web.errors import Problem
from mien.web.settings import Settings

MODEL, DETECTOR = "default", "centerface"
FOLDER = "vendor/onnxruntime-web"  # below static/; git ignores it
RUNTIME = f"{FOLDER}/ort-wasm-simd-threaded.wasm.gzip"  # as .gz it would be sent unpacked, and the size be unknown
MODULE = f"{FOLDER}/ort.wasm.bundle.min.mjs"
WORKER = "js/private/worker.js"
STATIC = Path(__file__).parent / "static"
WORKER_SCRIPTS = frozenset(f"/static/{name}" for name in (WORKER, MODULE))
"""Scripts that run as workers, each under its own Content Security Policy; ONNX Runtime's is that of its threads."""

blueprint = Blueprint("private", __name__)


def available() -> bool:
    """Whether this installation has all the files."""
    built = all((STATIC / name).is_file() for name in (RUNTIME, MODULE))
    return built and {MODEL, DETECTOR} <= set(hub.packaged())


@blueprint.get("/private/manifest.json")
def manifest() -> Response:
    """Files, and all that the page must know to treat pictures as the server does.

    Raises:
        Problem: this installation has no private mode.
    """
    if not available():
        raise Problem(404, "this installation has no private mode: build it with `make private`")
    settings: Settings = current_app.extensions["mien"].settings
    return jsonify(
        {
            "worker": url_for("static", filename=WORKER),
            "runtime": {"url": url_for("static", filename=RUNTIME), "bytes": (STATIC / RUNTIME).stat().st_size},
            "model": {**_file(MODEL), **_model()},
            "detector": {**_file(DETECTOR), **_detector(settings)},
            "max_faces": settings.max_faces,
        }
    )


@blueprint.get("/private/<name>.onnx")
def weights(name: str) -> Response:
    """The model or the detector: files that come with mien, nothing that this service alone has.

    Raises:
        Problem: no such file belongs to private mode.
    """
    if name not in (MODEL, DETECTOR) or not available():
        raise Problem(404, "there is no such file")
    return send_file(hub.resolve(name), mimetype="application/octet-stream", max_age=3600)


def _file(name: str) -> dict[str, Any]:
    about = hub.resolve(name).stat()
    # the time of its making in the address: a browser's copy of an older file is not taken for it
    return {"url": url_for("private.weights", name=name, v=int(about.st_mtime)), "bytes": about.st_size}


@cache
def _described() -> tuple[dict[str, Any], ModelInfo]:
    predictor = Predictor(hub.resolve(MODEL), threads=1)
    spec = predictor.spec
    about = {
        "name": MODEL,
        "labels": list(spec.labels),
        "input": {
            "size_hw": list(spec.input.size_hw),
            "channels": spec.input.channels,
            "mean": list(spec.input.mean),
            "std": list(spec.input.std),
        },
        "temperature": spec.temperature,
        "threshold": spec.threshold,
        "landmarks": [list(point) for point in spec.landmarks],
    }
    return about, predictor.info


def _model() -> dict[str, Any]:
    about, info = _described()
    provenance = {**info.to_dict(), "provider": "wasm", "detector": DETECTOR, "version": __version__}
    return {**about, "provenance": provenance}


def _detector(settings: Settings) -> dict[str, Any]:
    return {
        "score_threshold": detect.SCORE_THRESHOLDS[DETECTOR],
        "lone_ratio": centerface.LONE_RATIO,
        "same_face_iou": SAME_FACE_IOU,
        "thumbnail_px": scan.THUMBNAIL_PX,
        "border_px": scan.BORDER_PX,
        "max_side_px": {"full": detect.MAX_SIDE_PX, "fast": settings.fast_side_px},
    }
