"""`mien serve`: the web app and its API."""

import os
from dataclasses import replace
from typing import Annotated

import typer


def command(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=1, max=65535, help="Port to listen on.")] = 8000,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", help="Name of a model or an .onnx file; repeat it to compare. (default: default)"
        ),
    ] = None,
    detector: Annotated[str, typer.Option("--detector", "-d", help="centerface or yunet.")] = "centerface",
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=1, max=64, help="Processes. (default: one a CPU, 2 to 8)")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Let other machines in without a token.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change a limit; a wrong name lists them all."),
    ] = None,
) -> None:
    """Serve the web app and the API until Ctrl-C.

    A bearer token for /api and /metrics is read from the environment variable MIEN_SERVE_TOKEN.
    """
    from mien.runtime.cpus import available_cpus
    from mien.web.serving import Address, check_models, serve
    from mien.web.settings import Settings, check_exposure

    chosen = Settings(models=tuple(model or ["default"]), detector=detector).with_texts(settings or [])
    token = os.environ.get("MIEN_SERVE_TOKEN", "").strip()  # files that secrets come from mostly end with a newline
    chosen = replace(chosen, token=token or None)
    check_exposure(host, token=chosen.token, public=public)
    names = check_models(chosen)
    address = Address(host=host, port=port, workers=workers or min(8, max(2, available_cpus())))
    shown = f"[{host}]" if ":" in host else host
    typer.echo(
        f"mien: {', '.join(names)} on http://{shown}:{port} ({address.workers} workers; Ctrl-C ends it)", err=True
    )
    serve(chosen, address)
