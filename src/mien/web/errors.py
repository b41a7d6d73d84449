"""Every error as one shape: problem+json (RFC 9457) with a stable `type`."""

from typing import Any

from flask import Flask, Response, current_app, g, json
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from mien.errors import ImageError

PREFIX = "urn:mien:problem:"
REFUSED = "mien.refused"  # key of the environ: a `Problem` for Flask to answer with, so that all errors look the same
TYPES = {
    400: ("bad-request", "The request is malformed"),
    401: ("unauthorized", "A valid bearer token is needed"),
    404: ("not-found", "There is nothing at this address"),
    405: ("method-not-allowed", "This address does not take that method"),
    408: ("too-slow", "The request did not come in time"),
    413: ("too-large", "The request is too large"),
    415: ("not-multipart", "The pictures must come as multipart/form-data"),
    422: ("invalid-parameter", "A parameter does not fit"),
    429: ("rate-limited", "Too many requests from this client"),
    500: ("internal", "Something went wrong on this side"),
    503: ("busy", "All workers are busy"),
}
"""Status -> the last part of `type`, and `title`; a `Problem` can be more precise."""


PLAIN = {
    404: "there is nothing here: /openapi lists the API's addresses",
    405: "the header Allow lists the methods that this address takes",
}
"""Status -> what is said in place of Werkzeug's words for people who type addresses."""
WORDS = {
    "missing": "this field is missing",
    "extra_forbidden": "no such parameter; /openapi lists them, and all but the pictures go into the query",
}
"""Kind of a fault that pydantic finds -> what is said of it, where pydantic's words do not help."""


class Problem(Exception):  # noqa: N818 - the RFC's word
    """An answer other than success, raised where the fault is known."""

    def __init__(self, status: int, detail: str, *, kind: str | None = None, title: str | None = None) -> None:
        """`kind` is the last part of `type`; the status's own by default."""
        super().__init__(detail)
        usual = TYPES[status]
        self.status = status
        self.kind = kind or usual[0]
        self.title = title or usual[1]
        self.retry_after_s: int | None = None
        self.members: dict[str, Any] = {}


class Busy(Problem):
    """No place in the queue, or no turn in time."""

    STATUS = 503

    def __init__(self, detail: str, *, retry_after_s: int = 1) -> None:
        super().__init__(self.STATUS, detail)
        self.retry_after_s = retry_after_s


def unreadable(error: ImageError, index: int) -> Problem:
    """The answer for a picture that cannot be read; `image` counts the request's pictures from 0."""
    problem = Problem(422, str(error), kind="unreadable-image", title="A picture cannot be read")
    problem.members["image"] = index
    return problem


def too_many_images(count: int, allowed: int) -> Problem:
    """The answer for a request with more pictures than it may have."""
    detail = f"{count} pictures in one request: send {allowed} at most"
    return Problem(413, detail, kind="too-many-images", title="Too many pictures in one request")


def response_of(problem: Problem) -> Response:
    """The answer that a problem makes."""
    body = {
        "type": PREFIX + problem.kind,
        "title": problem.title,
        "status": problem.status,
        "detail": str(problem),
        "request_id": g.get("request_id", ""),
        **problem.members,
    }
    response = Response(json.dumps(body), status=problem.status, content_type="application/problem+json")
    if problem.retry_after_s is not None:
        response.headers["Retry-After"] = str(problem.retry_after_s)
    if problem.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="mien"'
    return response


def validation_response(error: ValidationError) -> Response:
    """What flask-openapi3 answers where a parameter does not fit its model."""
    faults = [
        f"{'.'.join(map(str, fault['loc']))}: {WORDS.get(fault['type'], fault['msg'])}" for fault in error.errors()
    ]
    return response_of(Problem(422, "; ".join(faults)))


def register(app: Flask) -> None:
    """Let every failure of `app` end as problem+json."""
    app.register_error_handler(Problem, response_of)
    app.register_error_handler(HTTPException, _from_http)
    app.register_error_handler(Exception, _from_fault)


def _from_http(error: HTTPException) -> Response:
    if error.response is not None:  # flask-openapi3 aborts with the finished answer
        return Response(error.response.get_data(), error.response.status_code, dict(error.response.headers))  # type: ignore[attr-defined]
    status = error.code or 500
    if status not in TYPES:
        status = 400 if status < 500 else 500
    problem = Problem(status, PLAIN.get(status) or error.description or TYPES[status][1])
    response = response_of(problem)
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After"):
            response.headers[name] = value
    return response


def _from_fault(error: Exception) -> Response:
    """A fault of ours: logged with its place, told without it."""
    current_app.logger.error("unhandled error", exc_info=error)
    return response_of(Problem(500, "The fault was logged under this request_id; the next request starts afresh."))
