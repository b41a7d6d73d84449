"""The pages: static frames that modules in the browser fill through the API."""

from flask import Blueprint, Response, current_app, render_template, send_file

from mien import __version__
from mien.web import private, samples
from mien.web.errors import Problem

blueprint = Blueprint("pages", __name__)


PAGES = (("/", "Photos"), ("/live", "Live"))
"""Address and name of what the navigation shows."""


def _frame(here: str) -> dict[str, object]:
    shared = current_app.extensions["mien"]
    return {
        "here": here,
        "pages": PAGES,
        "version": __version__,
        "needs_token": shared.settings.token is not None,
        "max_bytes": shared.settings.max_request_bytes,
        "max_faces": shared.settings.max_faces,
        "private": private.available(),
    }


@blueprint.get("/")
def photos() -> str:
    """Pictures: upload, faces, heatmaps."""
    return render_template("photos.html", samples=samples.available(), **_frame("/"))


@blueprint.get("/live")
def live() -> str:
    """Camera."""
    return render_template("live.html", **_frame("/live"))


@blueprint.get("/samples/<name>")
def sample(name: str) -> Response:
    """A picture to try without having one."""
    for one in samples.available():
        if one.name == name:
            return send_file(one.path, mimetype=one.mimetype, max_age=3600)
    raise Problem(404, "there is no such sample")


@blueprint.get("/favicon.ico")
def favicon() -> Response:
    """Browsers ask for it by this name."""
    return current_app.send_static_file("img/mark.svg")
