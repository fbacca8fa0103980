"""The ``lexlip demo`` command: a search that needs no model, no pictures and no network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lexlip.cli.app import app
from lexlip.cli.common import one_line, readable
from lexlip.models.runtime import quiet


@app.command(rich_help_panel="Start here")
@readable
def demo(
    folder: Annotated[
        Path | None, typer.Option(help="where pictures and index lie; by default in your cache")
    ] = None,
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="serve the page, and open it in the browser")
    ] = True,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8000,
) -> None:
    """Search 500 drawn pictures of coloured shapes: no model, no pictures, no network needed."""
    from lexlip.cli import output
    from lexlip.home.demo import QUERIES, SCENES, demonstration
    from lexlip.index import Index
    from lexlip.query.query import Query

    quiet()
    index = demonstration(folder)
    with Index.open(index) as opened:
        typer.echo(one_line(f"{SCENES} drawn pictures of coloured shapes, in {index.parent}"))
        for text in QUERIES:
            query = Query.parse(text)
            prepared = opened.prepare(query)
            hits = opened.search(prepared, 3)
            reasons = opened.explain_all([hit.id for hit in hits], prepared)
            typer.echo()
            typer.echo(one_line(f'lexlip search {index} "{text}"'))
            fits = opened.fits(hits, prepared, reasons)
            output.show(opened, prepared.resolved, hits, reasons, False, False, fits)
    if page:
        from lexlip.cli.serve import listen, run
        from lexlip.server import create_app

        with listen("127.0.0.1", port) as listening:
            typer.echo()
            run(create_app(index), listening, [index], browser=True)
