"""Query commands: ``lexlip search``, ``words`` and ``align``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lexlip.cli.app import app
from lexlip.cli.common import (
    Checkpoint,
    Device,
    FolderIndex,
    FolderModel,
    LexiconTable,
    in_our_words,
    load,
    load_speaker,
    one_line,
    read_item,
    read_query,
    readable,
    save_drawing,
)
from lexlip.cli.dashes import QueryCommand
from lexlip.errors import LexLIPError, check_count
from lexlip.models.runtime import quiet, use_device
from lexlip.storage.one_off import once


@app.command(cls=QueryCommand, rich_help_panel="Start here")
@readable
def search(
    asked: Annotated[
        list[str],
        typer.Argument(
            metavar="INDEX|FOLDER... QUERY",
            help="an index, or folders of pictures; a text, or a query: flower + 2:bee -people",
        ),
    ],
    image: Annotated[Path | None, typer.Option(help="search with a picture, or add one")] = None,
    k: Annotated[int, typer.Option("-k", help="how many pictures")] = 10,
    where: Annotated[
        str | None, typer.Option(help='only pictures with such metadata: "year >= 2020"')
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="the words of each hit")] = False,
    query_terms: Annotated[
        int | None, typer.Option(help="words kept of the query: 64, or 128 if vectors order")
    ] = None,
    rescore: Annotated[int, typer.Option(help="hits to order by exact cosine (--keep-floats)")] = 0,
    rerank: Annotated[
        str | None,
        typer.Option(
            help="what orders the best: vectors (default, if kept), terms, none; filip, csd, naaf "
            "(--keep-views)"
        ),
    ] = None,
    depth: Annotated[int | None, typer.Option(help="pictures that are ordered or reranked")] = None,
    min_fit: Annotated[
        float | None,
        typer.Option(help="leave out pictures that fit less: 3 (vectors), or a share: 0.7"),
    ] = None,
    model: FolderModel = None,
    index: FolderIndex = None,
    device: Device = None,
    encoder: Annotated[
        str, typer.Option(help="of texts: auto (a query table where there is one), network, table")
    ] = "auto",
    lexicon_map: LexiconTable = None,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", "-t", help="draw the pictures in the terminal")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
    trec: Annotated[
        str | None, typer.Option(metavar="ID", help="lines of a TREC run, for the query of that id")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="many queries: lines of id, tab, query, or JSON, - for the standard input; "
            "prints a TREC run, or --json"
        ),
    ] = None,
    paths: Annotated[bool, typer.Option("--paths", help="files alone, one a line")] = False,
    paths0: Annotated[
        bool, typer.Option("--paths0", help="files alone, for xargs -0: any name survives")
    ] = False,
) -> None:
    """Search pictures: lexlip search photos/ "a dog on a beach" -k 5.

    A folder is indexed first, and later what changed in it. An index is searched as it is.

    Queries are arithmetic: a dog + 2:beach adds up two texts, -people leaves out pictures with that
    word, -0.5:people subtracts it, must:red keeps pictures with it, img:dog.jpg is a picture.
    """
    from lexlip.cli import output
    from lexlip.cli.folders import split_target, up_to_date
    from lexlip.index import Index
    from lexlip.query.counts import check_search
    from lexlip.query.query import Query
    from lexlip.rerank.phases import PHASES

    if queries is None:
        paths_given, text = split_target(asked, image is not None)
    else:
        paths_given, text = [Path(place) for place in asked], ""
        if image is not None or explain or thumbnails or paths or paths0:
            raise LexLIPError(
                "--queries prints a TREC run, or --json: leave out --image, --explain, "
                "--thumbnails, --paths and --paths0"
            )
        if trec not in (None, "-"):
            raise LexLIPError("--queries has the ids: write --trec alone")
        if extra := [place for place in asked[1:] if not Path(place).exists()]:
            raise LexLIPError(f"the queries are those of {queries}: leave out {extra[0]!r:.80}")
    use_device(device)
    check_search(k, rescore, query_terms, rerank, depth, min_fit)
    if sum((as_json, trec is not None, paths, paths0, thumbnails)) > 1:
        raise LexLIPError("choose one of --json, --trec, --paths, --paths0 and --thumbnails")
    if not text.strip() and image is None and queries is None:
        raise LexLIPError('the query is empty: lexlip search FOLDER "a dog on a beach"')
    quiet()
    query = in_our_words(read_query(text) if text.strip() else Query(), lexicon_map)
    if image is not None:
        query += Query.image(image)
    path = up_to_date(paths_given, index, model)
    given = model if paths_given == [path] else None
    speaker = load_speaker(path, given, encoder, not query.has_pictures)
    if queries is not None:
        from lexlip.cli.batches import search_file

        with Index.open(path, speaker) as opened:
            search_file(
                opened, queries, as_json, lexicon_map, query_terms,
                k=k, where=where, rescore=rescore, rerank=rerank, depth=depth, min_fit=min_fit,
            )  # fmt: skip
        return
    with once(), Index.open(path, speaker) as opened:
        looks = rerank is not None and rerank not in PHASES
        prepared = opened.prepare(query, query_terms, views=looks)
        resolved, by = prepared.resolved, opened.ordered_by(prepared, rerank)
        hits = opened.search(
            prepared, k, where, rescore, rerank=rerank, depth=depth, min_fit=min_fit
        )
        ids = [hit.id for hit in hits]
        reasons = opened.explain_all(ids, prepared) if explain else [[] for _ in ids]
        fits = opened.fits(hits, prepared, reasons if explain else None)
        if as_json:
            by = "cosine" if rescore and rerank is None else by
            typer.echo(
                output.as_json(
                    resolved,
                    hits,
                    reasons if explain else None,
                    by,
                    query,
                    fits,
                )
            )
        elif trec is not None:
            lines = output.as_trec(trec, hits)
            kept = map(one_line, lines) if sys.stdout.isatty() else lines
            typer.echo("\n".join(kept), nl=bool(hits))
        elif paths or paths0:
            found, gone = output.as_paths(path, opened.manifest, hits)
            for name in output.print_paths(found, "\0" if paths0 else "\n"):
                typer.echo(f"{one_line(name)}: a line break in its name: --paths0", err=True)
            for id in gone:
                typer.echo(f"{one_line(id)}: no file of that name where it was indexed", err=True)
        else:
            if query.plain is None or query.plain != text.strip():
                typer.echo(f"read as: {one_line(str(query))}")
            filtered = bool(where) or min_fit is not None
            output.show(
                opened, resolved, hits, reasons if explain else None, filtered, thumbnails, fits
            )


@app.command(cls=QueryCommand)
@readable
def words(
    item: Annotated[str, typer.Argument(help="a picture's path, a text or a query")],
    model: Checkpoint,
    k: Annotated[int, typer.Option("-k", help="how many words")] = 20,
    lexicon_map: LexiconTable = None,
) -> None:
    """Show the words a picture or a text becomes: lexlip words cat.jpg -m CKPT.

    For a query such as flower + 2:bee -people, the words that it adds up to.
    """
    from lexlip.query.query import Query

    check_count("k", k)
    if not item.strip():
        raise LexLIPError('the text is empty: lexlip words "two hearts" -m CKPT')
    read, loaded, conditions = read_item(item), load(model), ""
    if isinstance(read, Query):
        read = in_our_words(read, lexicon_map)
    if isinstance(read, Query) and read.plain is None:
        asked = read.resolved(loaded)
        found = list(asked.words().items())[:k]
        conditions = str(replace(asked, parts=()))
    else:
        found = loaded.words_of(read.plain if isinstance(read, Query) else read, k)
    if not found:
        typer.echo("no words: nothing of it is in the model's lexicon")
        return
    width = max(abs(weight) for _, weight in found)
    for word, weight in found:
        typer.echo(f"{weight:7.3f}  {one_line(word):<20} {'#' * round(30 * abs(weight) / width)}")
    if conditions:
        typer.echo(one_line(conditions))


@app.command(cls=QueryCommand)
@readable
def align(
    picture: Annotated[Path, typer.Argument(help="a picture's path")],
    text: Annotated[str, typer.Argument(help="words to look for in it")],
    model: Checkpoint,
    out: Annotated[Path, typer.Option("-o", "--out", help="where to draw it")] = Path("align.png"),
) -> None:
    """Draw which word each patch matches best: lexlip align cat.jpg "a cat on grass" -m CKPT."""
    from lexlip.explain.alignment_drawing import draw
    from lexlip.models.speaker import require_places

    found = require_places(load(model)).align(picture, text)
    save_drawing(draw(picture, found), out)
    for number, word in enumerate(found.words):
        typer.echo(f"{one_line(word):<20} {int((found.patches == number).sum()):4} patches")
    typer.echo(f"drawn in {one_line(str(out))}")
