"""The ``lexlip doctor`` command: installed packages, Java, and fixes."""

from __future__ import annotations

import os
import sys

import typer

from lexlip.cli.app import app
from lexlip.cli.common import readable
from lexlip.errors import LexLIPError

_PLAIN = ("lexlip", "numpy", "onnxruntime", "tokenizers", "pillow-heif", "fastapi")
_EXTRAS = {
    "torch": ("torch", "models without an ONNX file"),
    "transformers": ("torch", "models without an ONNX file"),
    "numba": ("fast", "100,000 pictures and more"),
    "pyserini": ("lucene", "the engine lucene"),
    "pymilvus": ("milvus", "the engine milvus"),
    "opensearch-py": ("opensearch", "the engine opensearch"),
    "datasets": ("parquet", "parquet files and data sets"),
    "accelerate": ("train", "training, from a clone"),
    "aiohttp": ("remote", "pictures behind http:// and https://"),
    "ray": ("ray", "encoding on a Ray cluster, from a clone"),
    "rawpy": ("raw", "RAW files of cameras"),
}
"""Packages of extras: the extra, and what it is for."""


@app.command()
@readable
def doctor() -> None:
    """Print what is installed and which Java is used, with a fix for what is missing."""
    import importlib.metadata as metadata

    for package in (*_PLAIN, *_EXTRAS):
        try:
            typer.echo(f"{package:<14}{metadata.version(package)}")
        except metadata.PackageNotFoundError:
            fix = f"pip install {package}"
            if package in _EXTRAS:
                extra, use = _EXTRAS[package]
                fix = f"pip install 'lexlip[{extra}]' (for {use})"
            typer.echo(f"{package:<14}missing: {fix}")
    typer.echo(f"{'python':<14}{sys.version.split()[0]}")
    typer.echo(f"{'offline':<14}{'yes' if os.environ.get('HF_HUB_OFFLINE') == '1' else 'no'}")
    from lexlip.engines.lucene.java import find_java
    from lexlip.models.onnx import road

    typer.echo(f"{'encoding':<14}{road()}")
    try:
        typer.echo(f"{'java':<14}{find_java()}")
    except LexLIPError as error:  # only the engine lucene needs it
        typer.echo(f"{'java':<14}{error} (for the engine lucene)")
