"""The ``lexlip serve`` command: one index for browsers and programs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lexlip.cli.app import app
from lexlip.cli.common import Device, FolderIndex, FolderModel, one_line, readable
from lexlip.cli.keys import doubts, read_key
from lexlip.errors import LexLIPError
from lexlip.models.runtime import quiet, set_threads, use_device
from lexlip.storage.remote import shown

if TYPE_CHECKING:
    from lexlip.server.connections import Limits

_SOON = 1.0
"""Seconds after which the browser is opened: the server listens by then."""


@app.command(rich_help_panel="Start here")
@readable
def serve(
    given: Annotated[
        list[str],
        typer.Argument(metavar="INDEX|URL|FOLDER...", help="an index, or folders of pictures"),
    ],
    model: FolderModel = None,
    index: FolderIndex = None,
    device: Device = None,
    host: Annotated[str, typer.Option(help="address to listen at")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="LEXLIP_API_KEY", help="key that requests must carry (in ps for all to see)"
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(envvar="LEXLIP_API_KEY_FILE", help="file with that key, and nothing else"),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="refuse all changes")] = False,
    pictures: Annotated[
        str | None, typer.Option(help="the pictures, if moved: folder, table, data set")
    ] = None,
    split: Annotated[str | None, typer.Option(help="split of that data set")] = None,
    name: Annotated[list[str] | None, typer.Option(help="public host name, behind a proxy")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="accept other machines without an API key")
    ] = False,
    browser: Annotated[bool, typer.Option("--open", help="open the page in the browser")] = False,
    log_requests: Annotated[
        bool, typer.Option("--log-requests", help="log requests, a JSON object a line")
    ] = False,
    log_queries: Annotated[
        bool, typer.Option("--log-queries", help="the same, with what was asked")
    ] = False,
) -> None:
    """Search pictures in the browser: lexlip serve photos/, then http://127.0.0.1:8000.

    A folder is indexed while you look, and followed as long as it is served.
    Other programs read /openapi.json. Only this machine is accepted by default; --host 0.0.0.0
    --api-key-file FILE accepts others too.
    """
    from lexlip.cli.folders import served
    from lexlip.server import Settings, create_app
    from lexlip.server.settings import LOOPBACK

    use_device(device)
    key = read_key(api_key, api_key_file)
    local = host in LOOPBACK
    if not (local or key or insecure):
        raise LexLIPError(
            f"anybody who reaches {host} could search and delete: give --api-key-file FILE, "
            "or --insecure if you want that"
        )
    every = ("*",) if host in ("0.0.0.0", "::") else ()
    settings = Settings(
        api_key=key,
        read_only=read_only,
        hosts=(*LOOPBACK, *([] if local else [host]), *every, *(name or [])),
        pictures=pictures,
        split=split,
        log_requests=log_requests,
        log_queries=log_queries,
    )
    for line in doubts(key, api_key_file):
        typer.echo(f"lexlip: {line}", err=True)
    listening = listen(host, port)
    with listening:
        quiet()
        place, speaker, grow = served(given, index, model)
        # One text is too little work for two cores: encoding it in a server thread took 71 ms when
        # torch used both cores of the machine, and 7 ms when it used one.
        set_threads(1)
        run(
            create_app(place, speaker, settings, grow), listening, given, browser,
            json_lines=log_requests or log_queries,
        )  # fmt: skip


def run(
    application: Any,
    listening: socket.socket,
    what: Sequence[str | Path],
    browser: bool,
    limits: Limits | None = None,
    json_lines: bool = False,
) -> None:
    """Serve an application at an open socket, until Ctrl+C.

    Parameters
    ----------
    application : ASGI application
    listening : socket
    what : sequence of str or Path
        Named beside the address.
    browser : bool
        Open the page in the browser.
    limits : Limits, optional
        Of connections; by default as many as leave enough file descriptors for the index.
    json_lines : bool
        Write logs as JSON objects, requests among them.
    """
    from lexlip.server.calm import calm
    from lexlip.server.connections import Limits, Server, most_connections
    from lexlip.server.memory import return_blocks

    limits = limits or Limits(most_connections())
    host, port = listening.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    typer.echo(one_line(f"{', '.join(shown(str(it)) for it in what)}: {address} (Ctrl+C stops)"))
    server = Server(
        application, limits, log_level="warning", access_log=False, server_header=False, ws="none",
        proxy_headers=False, timeout_graceful_shutdown=5,
    )  # fmt: skip
    if json_lines:
        from lexlip.server.request_log import log_requests

        log_requests()
    calm()
    return_blocks()
    if browser:
        import webbrowser

        timer = threading.Timer(_SOON, webbrowser.open, [address])
        timer.daemon = True
        timer.start()
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listening])


def listen(host: str, port: int) -> Any:
    """Return a listening socket; a taken port is an error before a model is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
        # Connections inherit it. Without, each answer on a kept connection waits 40 ms for the
        # other side's acknowledgement.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LexLIPError(f"cannot listen at {host}:{port} ({reason}): try --port 0") from None
