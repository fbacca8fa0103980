"""``lexlip doctor``: what is installed."""

from __future__ import annotations

import os
import sys

import typer

from lexlip.cli.app import app
from lexlip.cli.common import readable


@app.command()
@readable
def doctor() -> None:
    """Say what is installed and which Java is used, with a fix for what is missing."""
    import importlib.metadata as metadata

    for package in ("lexlip", "torch", "transformers", "pyserini", "pyjnius"):
        try:
            typer.echo(f"{package:<14}{metadata.version(package)}")
        except metadata.PackageNotFoundError:
            typer.echo(f"{package:<14}missing: pip install {package}")
    typer.echo(f"{'python':<14}{sys.version.split()[0]}")
    typer.echo(f"{'offline':<14}{'yes' if os.environ.get('HF_HUB_OFFLINE') == '1' else 'no'}")
    from lexlip.java import find_java

    typer.echo(f"{'java':<14}{find_java()}")
