"""The ``lexlip doctor`` command: installed packages, Java, and fixes."""

from __future__ import annotations

import os
import sys

import typer

from lexlip.cli.app import app
from lexlip.cli.common import readable

_EXTRAS = {
    "fastapi": "'lexlip[server]' (for lexlip serve)",
    "pillow-heif": "'lexlip[heic]' (for pictures of phones)",
    "rawpy": "'lexlip[raw]' (for RAW files of cameras)",
}
"""Optional packages, and how to install them."""


@app.command()
@readable
def doctor() -> None:
    """Print what is installed and which Java is used, with a fix for what is missing."""
    import importlib.metadata as metadata

    needed = {name: name for name in ("lexlip", "torch", "transformers", "pyserini", "pyjnius")}
    for package, install in (needed | _EXTRAS).items():
        try:
            typer.echo(f"{package:<14}{metadata.version(package)}")
        except metadata.PackageNotFoundError:
            typer.echo(f"{package:<14}missing: pip install {install}")
    typer.echo(f"{'python':<14}{sys.version.split()[0]}")
    typer.echo(f"{'offline':<14}{'yes' if os.environ.get('HF_HUB_OFFLINE') == '1' else 'no'}")
    from lexlip.engines.lucene.java import find_java
    from lexlip.models.onnx import road

    typer.echo(f"{'encoding':<14}{road()}")
    typer.echo(f"{'java':<14}{find_java()}")
