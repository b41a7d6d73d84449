"""The application factory."""

from collections.abc import Sequence
from typing import Any

from flask import Flask
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI

from mien import __version__
from mien.web import api, errors, logs, pages, private, security
from mien.web.schemas import Problem
from mien.web.service import Served, load_models
from mien.web.settings import Settings
from mien.web.state import State
from mien.web.uploads import MemoryRequest


def create_app(settings: Settings | None = None, *, models: Sequence[Served] | None = None) -> Flask:
    """The service as a WSGI application; it exists only when its models are loaded and warm.

    `models` stand in for those that the settings name: tests pass small ones.

    Raises:
        MienError: a model or the detector cannot be loaded.
    """
    settings = settings or Settings()
    app = OpenAPI(
        "mien.web",
        info=Info(title="mien", version=__version__, description="Emotion recognition in face images."),
        security_schemes={"bearer": {"type": "http", "scheme": "bearer"}} if settings.token else {},
        validation_error_model=Problem,
        validation_error_callback=errors.validation_response,
        doc_ui=False,
        template_folder="templates",
        static_folder="static",
    )
    app.request_class = MemoryRequest
    app.url_map.merge_slashes = False  # or `/api//v1` is answered with the address of whatever Host was sent
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.compact = True  # type: ignore[attr-defined]
    app.config["MAX_CONTENT_LENGTH"] = settings.max_request_bytes
    app.config["MAX_FORM_PARTS"] = settings.max_images + 16
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 0  # with ETags: one script of another version would not fit the others
    state = State(settings, load_models(settings) if models is None else models)
    app.extensions["mien"] = state
    logs.register(app, state.metrics)
    security.register(app, settings)
    errors.register(app)
    app.register_api(api.blueprint)
    app.register_blueprint(pages.blueprint)
    app.register_blueprint(private.blueprint)
    app.extensions["mien.openapi"] = document(app, token=settings.token is not None)
    return app


def document(app: OpenAPI, *, token: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 document: what flask-openapi3 gathers, with arrays and problem+json where answers have them."""
    found: dict[str, Any] = app.api_doc
    for path, operations in found["paths"].items():
        for operation in operations.values():
            answers = operation["responses"]
            for status, answer in list(answers.items()):
                if status[0] in "45" and "content" in answer:
                    schema = {"$ref": "#/components/schemas/Problem"}
                    answer["content"] = {"application/problem+json": {"schema": schema}}
                    answer["description"] = errors.TYPES[int(status)][1]
            if path in ("/api/v1/analyze", "/api/v1/models"):
                content = answers["200"]["content"]["application/json"]
                content["schema"] = {"type": "array", "items": content["schema"]}
            if not path.startswith("/api/"):
                answers.pop("422", None)
            if token and path.startswith(security.GUARDED):
                operation["security"] = [{"bearer": []}]
    _describe_plain(found["paths"])
    return found


def _describe_plain(paths: dict[str, Any]) -> None:
    """The answers that have no model of their own."""
    paths["/metrics"]["get"]["responses"]["200"] = {
        "description": "Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}},
    }  # fmt: skip
    paths["/openapi"]["get"]["responses"]["200"] = {
        "description": "OpenAPI 3.1", "content": {"application/json": {"schema": {"type": "object"}}},
    }  # fmt: skip
