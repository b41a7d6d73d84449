"""Who may call, and what browsers may do with the answers."""

import hmac
import ipaddress

from flask import Flask, Response, request
from flask_limiter import Limiter
from werkzeug.exceptions import TooManyRequests
from werkzeug.wrappers import Request

from mien.web.errors import REFUSED, Problem, response_of
from mien.web.private import WORKER_SCRIPTS
from mien.web.settings import Settings, is_loopback

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",  # data: the crops that /explain answers with
        "connect-src 'self'",
        "media-src 'self' blob:",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
WORKER_POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; base-uri 'none'; frame-ancestors 'none'"
"""Of private mode's worker: it may compile WebAssembly, and it may connect to nothing, this service included."""
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), display-capture=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",  # with the line above: lets private mode's WebAssembly use threads
    "Cross-Origin-Resource-Policy": "same-origin",
}
GUARDED = ("/api/", "/metrics")
PREFLIGHT_S = "600"
CLIENT_BITS = 64  # of an IPv6 address: what a home or a phone gets for itself


def register(app: Flask, settings: Settings) -> None:
    """Limit the rate, check tokens and origins before requests, add headers after them."""
    origins = frozenset(settings.cors_origins)
    _limit_rate(app, settings)  # first: guesses at the token count, too

    @app.before_request
    def admit() -> Response | None:
        if isinstance(refused := request.environ.get(REFUSED), Problem):
            raise refused
        if is_preflight(request, settings):
            return Response(status=204)
        if request.routing_exception is None:  # else 404 or 405, whatever the token: the limit counts no such calls
            check_token(request, settings)
        return None

    @app.after_request
    def add_headers(response: Response) -> Response:
        if request.path in WORKER_SCRIPTS:
            response.headers["Content-Security-Policy"] = WORKER_POLICY
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.path.startswith(GUARDED) or response.status_code >= 400:
            response.headers["Cache-Control"] = "no-store"
        if origins and request.path.startswith("/api/"):
            _add_cors(response, origins)
        return response


def is_preflight(request: Request, settings: Settings) -> bool:
    """Whether a browser asks if a page of another origin, one that may, can call the API; it sends no token then."""
    allowed = request.headers.get("Origin") in settings.cors_origins
    return request.method == "OPTIONS" and allowed and request.path.startswith("/api/")


def client_of(request: Request, settings: Settings) -> str | None:
    """The address that asks; behind trusted proxies the one that the outermost of them saw.

    Without the port that some gateways append; of IPv6 the /64, all of which one client has (RFC 6177). None on
    loopback, where nobody else calls; never of what a header says.
    """
    # between two commas stands what one proxy saw: quotes, which Werkzeug honours here, are the client's own
    forwarded, trusted = request.headers.get("X-Forwarded-For", "").split(","), settings.trusted_proxies
    if trusted and len(forwarded) >= trusted and "X-Forwarded-For" in request.headers:
        return _one_client(forwarded[-trusted].strip())
    address = request.remote_addr or "unknown"
    return None if is_loopback(address) else _one_client(address)


def _one_client(address: str) -> str:
    host = address[1:].partition("]")[0] if address.startswith("[") else address
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None and not found.is_loopback:
        return str(ipaddress.ip_network((found, CLIENT_BITS), strict=False))
    return host


def check_token(request: Request, settings: Settings) -> None:
    """Look for the token where one is needed; in a time that tells nothing of it.

    Raises:
        Problem: the request does not have it.
    """
    if settings.token is None or not request.path.startswith(GUARDED):
        return
    scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
    same = hmac.compare_digest(sent.strip().encode("utf-8", "surrogateescape"), settings.token.encode())
    if scheme.lower() != "bearer" or not same:
        raise Problem(401, "send the header `Authorization: Bearer TOKEN`")


def _add_cors(response: Response, origins: frozenset[str]) -> None:
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin not in origins:
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = "Retry-After, X-Request-ID"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = "GET, POST"
        response.headers["Access-Control-Allow-Headers"] = "Authorization"
        response.headers["Access-Control-Max-Age"] = PREFLIGHT_S


def _limit_rate(app: Flask, settings: Settings) -> None:
    """So many calls a client, refused ones included; none are counted on loopback."""

    def client() -> str:
        return client_of(request, settings) or "loopback"

    def free() -> bool:
        return not request.path.startswith(GUARDED) or client_of(request, settings) is None

    limiter = Limiter(client, app=app, application_limits=[settings.rate_limit], storage_uri="memory://")
    limiter.request_filter(free)

    @app.errorhandler(TooManyRequests)
    def too_many(error: TooManyRequests) -> Response:
        problem = Problem(429, f"more than {error.description} from this client: wait a second")
        problem.retry_after_s = 1
        return response_of(problem)
