"""Indexing commands: ``lexlip index``, ``delete``, ``compact``, ``stats`` and ``check``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lexlip.build.recipe import Recipe
from lexlip.cli.app import app
from lexlip.cli.common import Device, load, one_line, readable
from lexlip.cli.console import said_once, with_options
from lexlip.errors import LexLIPError
from lexlip.models.dual import refuse_dual_encoder
from lexlip.models.runtime import quiet, share_cores, use_device
from lexlip.storage.ids import is_id

if TYPE_CHECKING:
    from lexlip.build.write import Added


@app.command()
@readable
@with_options(Recipe, "Of a new index")
def index(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="folders of pictures, pictures, CSV, parquet, tars, URLs, data set names",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="folder of the index")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="checkpoint, for a new index"),
    ] = None,
    split: Annotated[str | None, typer.Option(help="split of a data set")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="overwrite an existing index")] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="files and folders to leave out, now and later: '*.tmp.jpg', 2024/raw"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="encode pictures that look unchanged, too")
    ] = False,
    device: Device = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="delete pictures that are no longer in the folder")
    ] = False,
    max_skipped: Annotated[
        float, typer.Option(help="share of pictures that may be skipped, 0 to 1; then exit code 2")
    ] = 1.0,
    **options: Any,
) -> None:
    """Turn pictures into words and write an index: lexlip index photos/ -o photos.lex -m CKPT.

    If the index exists, new and changed pictures are added to it; an interrupted build goes on.
    Renamed and copied pictures are known by their bytes. Ids of a second folder begin with its
    name.
    """
    from lexlip.build.manifest import is_index, place_of, read_manifest
    from lexlip.build.write import Added, check_skipped
    from lexlip.index import Index

    check_skipped(out, 0, 0, max_skipped)
    use_device(device)
    share_cores()
    recipe = Recipe(**options)  # a wrong option is an error before a model is loaded
    if model is not None:
        refuse_dual_encoder(model, pictures=sources[0])
    new = replace or not is_index(out)
    if new:
        if model is None:
            raise LexLIPError("which model? lexlip index SOURCE -o INDEX --model CHECKPOINT")
        first, *others = sources
        left_out = exclude or ()
        built = Index.create(
            out, load(model), first, recipe,
            split=split, checkpoint=model, replace=replace, exclude=left_out,
            max_skipped=max_skipped,
        )  # fmt: skip
        done = Added(skipped=built.skipped, said=built.said)
    else:
        manifest, others = read_manifest(out), sources
        _check_recipe(context, out, manifest, recipe)
        quiet()
        # The model is loaded when something is to be encoded.
        same = model is None or place_of(model) == manifest["checkpoint"]
        built, done = Index.open(out, None if same else load(model), mode="w"), Added()
    with built:
        for source in others:
            added = built.add(source, split=split, force=force, prune=prune, exclude=exclude or ())
            _say_gone(source, out, added)
            done += added
        facts = built.stats()
        names = [name for name, _ in done.skipped if is_id(name)]
        held = zip(names, built.engine.fetch(names), strict=True)
        stay = {name for name, it in held if it is not None}
    for line in done.said:
        typer.echo(one_line(line), err=True)
    for old in (False, True):
        reasons = (reason for name, reason in done.skipped if (name in stay) == old)
        for reason in said_once(reasons):
            kept = " (its old version stays)" if old else ""
            typer.echo(f"skipped{kept}: {one_line(reason)}", err=True)
    counts = {
        "new": done.written, "unchanged": done.unchanged, "of known bytes": done.alike,
        "deleted": done.pruned,
    }  # fmt: skip
    always = () if new else ("new", "unchanged")
    news = ", ".join(f"{n} {what}" for what, n in counts.items() if what in always or n)
    news = "" if new else f"{news}; "
    typer.echo(
        f"{one_line(str(out))}: {news}{facts['documents']} pictures ({len(done.skipped)} skipped), "
        f"{facts['terms_per_image']:.1f} terms and {facts['bytes_per_image']:.0f} bytes each"
    )
    read = facts["documents"] if new else done.written + done.unchanged + done.alike
    check_skipped(out, len(done.skipped), read + len(done.skipped), max_skipped)


def _check_recipe(
    context: typer.Context, out: Path, manifest: dict[str, Any], recipe: Recipe
) -> None:
    """Refuse options that differ from those of the index, rather than ignore them."""
    there = Recipe.of(manifest).facts()
    given = {
        name: value for name, value in recipe.facts().items()
        if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"
    }  # fmt: skip
    others = {name: there[name] for name, value in given.items() if value != there[name]}
    if others:
        had = ", ".join(f"{name.replace('_', '-')} {value}" for name, value in others.items())
        raise LexLIPError(
            f"{out} has {had}, and an index keeps its options: leave them out, or make it anew "
            "with --replace"
        )


def _say_gone(source: str, out: Path, added: Added) -> None:
    count = len(added.gone)
    if not count:
        return
    are = "1 picture is" if count == 1 else f"{count} pictures are"
    first = f"{added.gone[0]}, ..." if count > 1 else added.gone[0]
    advice = "deleted from the index" if added.pruned else "--prune deletes them from the index"
    typer.echo(one_line(f"{are} no longer in {source} ({first}): {advice}"), err=True)


@app.command()
@readable
def delete(
    path: Annotated[Path, typer.Argument(metavar="INDEX")],
    ids: Annotated[
        list[str],
        typer.Argument(help="as search prints them; patterns: 'trip/*.png'; - reads lines"),
    ],
) -> None:
    """Delete pictures from an index by id: lexlip delete photos.lex trip/a.jpg 'old/*'.

    With - ids are read from the standard input, one a line, or with NUL after each.
    """
    from lexlip.cli.deleting import chosen
    from lexlip.index import Index

    with Index.open(path, mode="w") as opened:
        found, unknown = chosen(opened, ids)
        for name in unknown if found else ():
            typer.echo(f"{one_line(name)}: not in {one_line(str(path))}", err=True)
        if not found:
            named = f" (no {unknown[0]})" if unknown else ""
            raise LexLIPError(f"{path} has no such picture{named}: nothing is deleted")
        count = opened.delete(found)
        typer.echo(f"{one_line(str(path))}: {count} deleted, {len(opened)} left")


@app.command()
@readable
def compact(path: Annotated[Path, typer.Argument(metavar="INDEX")]) -> None:
    """Merge an index and drop deleted and replaced documents."""
    from lexlip.index import Index

    with Index.open(path, mode="w") as opened:
        before = opened.stats()["bytes"]
        opened.compact()
        typer.echo(f"{one_line(str(path))}: {before} bytes before, {opened.stats()['bytes']} after")


@app.command()
@readable
def stats(path: Annotated[Path, typer.Argument(metavar="INDEX")]) -> None:
    """Print the statistics and the manifest of an index, as JSON."""
    from lexlip.index import Index

    with Index.open(path) as opened:
        typer.echo(json.dumps(opened.stats(), indent=2))


@app.command()
@readable
def check(path: Annotated[Path, typer.Argument(metavar="INDEX")]) -> None:
    """Read all of an index and verify every checksum."""
    from lexlip.index import Index

    with Index.open(path) as opened:
        damaged = opened.check()
    if damaged:
        raise LexLIPError(f"{path} is corrupted ({', '.join(damaged[:3])}): build it again")
    typer.echo(f"{one_line(str(path))}: every file is sound")


@app.command()
@readable
def upgrade(path: Annotated[Path, typer.Argument(metavar="INDEX")]) -> None:
    """Bring an index of an earlier lexlip to today's formats; nothing is encoded again."""
    from lexlip.build.upgrade import upgrade

    for line in (done := upgrade(path)):
        typer.echo(f"{one_line(str(path))}: {line}")
    if not done:
        typer.echo(f"{one_line(str(path))}: all formats are of today")
