"""Every setting of the service with its default and its reason; nothing is configured anywhere else."""

import ipaddress
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import limits

from mien.errors import ConfigError

ENVIRONMENT = "MIEN_SERVE_SETTINGS"
"""Environment variable in which `mien serve` hands the settings to its worker processes, as JSON."""
RANGES: dict[str, tuple[int, int]] = {
    "threads": (0, 256),  # ONNX Runtime starts them all, and hangs with 100,000
    "fast_side_px": (32, 2**31 - 1),  # as `mien.faces.detect.create` takes it
    **dict.fromkeys(
        ("max_request_bytes", "max_pixels", "max_request_pixels", "max_images", "max_faces", "max_running"),
        (1, 2**31 - 1),
    ),
    **dict.fromkeys(("max_waiting", "trusted_proxies"), (0, 2**31 - 1)),
    **dict.fromkeys(("max_upload_s", "max_seconds", "max_wait_s"), (0, 86_400)),  # locks and timers take no infinity
}
"""Setting -> the least and the most that works; beyond them the worker ends, or fails where it reads or waits."""
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]+)?")
DEFAULT_PORT = re.compile(r"http://.*:80|https://.*:443")  # browsers leave it out of Origin


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the service allows. `mien serve --set name=value` changes one."""

    models: tuple[str, ...] = ("default",)  # names or .onnx files; the first answers where a request names none
    detector: str = "centerface"  # centerface or yunet
    threads: int = 0  # of one analysis; 0: the CPUs shared out among the workers
    fast_side_px: int = 320  # longer side that detection sees where a request asks for detection=fast

    max_request_bytes: int = 10_000_000
    max_pixels: int = 40_000_000  # of a picture, read from its header before a pixel is decoded
    max_request_pixels: int = 100_000_000  # as decoded, of all its pictures: eight PNGs of 12 megapixels
    max_images: int = 8  # a request
    max_faces: int = 64  # a picture; the detector's surest are kept
    max_upload_s: float = 30.0  # for a request's body to come in; slow clients hold no thread meanwhile
    max_seconds: float = 20.0  # a request, with its wait: looked at before each picture and each stage
    max_running: int = 1  # analyses at a time in a worker; more would share the same cores
    max_waiting: int = 3  # requests that wait for their turn in a worker; the next one gets 503
    max_wait_s: float = 0.6  # for that turn; then 503: a client that waits longer has mostly left

    rate_limit: str = "40 per second"  # a client and worker; the live page sends what one client can: off on loopback
    trusted_proxies: int = 0  # reverse proxies in front, whose X-Forwarded-For is believed

    token: str | None = None  # bearer token that /api and /metrics ask for
    cors_origins: tuple[str, ...] = ()  # other sites whose pages may call the API

    def __post_init__(self) -> None:
        if not self.models:
            raise ConfigError("models is empty: name one or more")
        for name, (least, most) in RANGES.items():
            if not least <= getattr(self, name) <= most:  # nan is not either
                raise ConfigError(f"{name} is {getattr(self, name)}: it must be from {least} to {most:,}")
        for name in ("max_seconds", "max_upload_s"):
            if getattr(self, name) == 0:
                raise ConfigError(f"{name} is 0: it must be more")
        if self.detector not in ("centerface", "yunet"):
            raise ConfigError(f"{self.detector!r} is no detector of the service: use centerface or yunet")
        _check_rate(self.rate_limit)
        if self.token is not None:
            _check_token(self.token)
        for origin in self.cors_origins:
            _check_origin(origin)

    def with_texts(self, assignments: Sequence[str]) -> "Settings":
        """A copy with `name=value` texts applied, as `mien serve --set` takes them.

        Raises:
            ConfigError: a name is unknown, or a value does not fit it.
        """
        return replace(self, **dict(self._parsed(text) for text in assignments))

    def to_environment(self) -> dict[str, str]:
        """The environment variable that `from_environment` reads."""
        return {ENVIRONMENT: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """The settings that `to_environment` wrote; the defaults where there are none."""
        table: dict[str, Any] = json.loads(environment.get(ENVIRONMENT, "{}"))
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
        return cls(**values)

    def _parsed(self, assignment: str) -> tuple[str, Any]:
        name, equals, text = assignment.partition("=")
        if not equals or name not in {field.name for field in fields(self)}:
            known = ", ".join(field.name for field in fields(self))
            raise ConfigError(f"{assignment!r} sets nothing: use name=value with one of {known}")
        if name == "token":
            raise ConfigError("set the token with the environment variable MIEN_SERVE_TOKEN: other users see options")
        kind = type(getattr(self, name))
        try:
            return name, tuple(filter(None, map(str.strip, text.split(",")))) if kind is tuple else kind(text)
        except ValueError as error:
            raise ConfigError(f"{name} is {text!r}: it must be a {kind.__name__}") from error


def _check_rate(text: str) -> None:
    try:
        rates = limits.parse_many(text)
    except ValueError as error:
        raise ConfigError(f"rate_limit is {text!r}: write it like `40 per second` or `40/second; 1000/hour`") from error
    if any(rate.amount < 1 for rate in rates):
        raise ConfigError(f"rate_limit is {text!r}, which lets nobody in: allow 1 or more")


def _check_token(token: str) -> None:
    if len(token) < 16:
        raise ConfigError("the token is shorter than 16 characters: make one with `openssl rand -hex 16`")
    if not all("!" <= letter <= "~" for letter in token):  # no client could send it in a header
        raise ConfigError("the token has white space or characters beyond ASCII: make one with `openssl rand -hex 16`")


def _check_origin(origin: str) -> None:
    if origin == "*":
        raise ConfigError("cors_origins must name origins such as https://example.org, not *")
    if not ORIGIN.fullmatch(origin) or DEFAULT_PORT.fullmatch(origin):
        raise ConfigError(
            f"cors_origins has {origin!r}, which no browser sends: write scheme://host or scheme://host:port, in lower"
            " case, without a path or the scheme's own port, such as https://example.org"
        )


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def check_exposure(host: str, *, token: str | None, public: bool) -> None:
    """Refuse to be reachable from other machines by accident.

    Raises:
        ConfigError: `host` is not loopback and neither a token nor `public` says that this is wanted.
    """
    if not is_loopback(host) and token is None and not public:
        raise ConfigError(
            f"{host} can be reached from other machines: set a bearer token in MIEN_SERVE_TOKEN, or say --public"
        )
