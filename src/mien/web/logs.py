"""The service's log: one JSON line a request, with counts and times, never with pixels, names or addresses."""

import json
import logging
import re
import sys
import time
import traceback
from typing import Any
from uuid import uuid4

from flask import Flask, Response, g, request

from mien.web.metrics import Metrics

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})  # asked for every few seconds: counted, not logged

logger = logging.getLogger("mien.web")


class JsonLines(logging.Formatter):
    """A record as one line of JSON; `extra={"fields": {...}}` adds to it."""

    def format(self, record: logging.LogRecord) -> str:
        """Render the record; of an exception only the places in the code, since messages can hold names."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = type(error).__name__
            frames = traceback.extract_tb(error.__traceback__)
            line["places"] = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(line)


def configure() -> None:
    """Send mien's log to stderr as JSON lines: what a worker of `mien serve` does."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def register(app: Flask, metrics: Metrics) -> None:
    """Give each request an id, and note how it went."""
    app.logger = logger

    @app.before_request
    def begin() -> None:
        sent = request.headers.get("X-Request-ID", "")
        g.request_id = sent if REQUEST_ID.fullmatch(sent) else uuid4().hex
        g.started = time.monotonic()

    @app.after_request
    def end(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.get("request_id", "")
        seconds = time.monotonic() - g.get("started", time.monotonic())
        place = request.url_rule.rule if request.url_rule else "none"  # the route, not what a client typed
        metrics.requests.labels(place, str(response.status_code)).inc()
        metrics.seconds.labels(place).observe(seconds)
        metrics.observe_queue()
        if place not in QUIET:
            fields = {
                "request_id": g.get("request_id", ""),
                "method": request.method if request.url_rule else "-",
                "route": place,
                "status": response.status_code,
                "ms": round(1000 * seconds, 1),
                "bytes_in": request.content_length or 0,
                **{name: round(value, 4) for name, value in g.get("notes", {}).items()},
            }
            logger.info("request", extra={"fields": fields})
        return response
