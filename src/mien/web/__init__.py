"""The web application: a page for people, an API for programs, limits for both. Start at `create_app`."""

from mien.web.app import create_app
from mien.web.settings import Settings

__all__ = ["Settings", "create_app"]
