"""The model that the package ships: RUN/stage2 in half precision, for onnxruntime, in 2 MB.

    make demo demo-checkpoint
    python -m pretrain.pack_demo --config scenes --run runs/demo out=/tmp/demo-model

Written are the graphs with their weights in 16 bits, a query table that is fitted here, and a
manifest: the sha256 of each file, how the model was made, and what it can do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer

from lexlip.cli.console import Config, Job, Overrides, Run
from lexlip.data.draw import COLOURS, SHAPES
from lexlip.data.scenes import Pattern, Predicate, Scene, make_scenes, matches
from lexlip.errors import LexLIPError
from lexlip.impacts import top_terms, unit_normalise
from lexlip.models.digests import digests
from lexlip.models.export import export
from lexlip.models.export_files import FOLDER, GRAPHS
from lexlip.models.exported import ExportedLexLIP
from lexlip.models.lexlip import LexLIP
from lexlip.models.sentence_files import write_sentence_files
from lexlip.models.shipped import FORMAT, load_shipped
from lexlip.settings import option
from lexlip.storage.files import MANIFEST, atomic_directory, read_json, write_json
from pretrain import fit_query_table as queries
from pretrain import settings
from pretrain.loop import Workbench
from pretrain.validate import recall, relevance

MOST = 2_000_000
"""Bytes of all files together."""

MADE_WITH = ("seed", "model", "stage1", "stage2", "queries")
"""Settings that the manifest keeps."""

LARGE = 64
"""Numbers of a tensor from which on it is stored in 16 bits: shapes and axes are left alone."""


@dataclass(frozen=True)
class Settings(queries.Settings):
    """A run's settings, and where the model is written."""

    out: str = option("lexlip/data/demo", "folder to write")
    scenes_seed: int = option(1, "of the unseen scenes that words are counted on")


def halve(path: Path) -> None:
    """Store the weights of a graph in 16 bits; they are multiplied in 32, as before.

    onnxruntime widens them once, when it opens the graph.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and math.prod(tensor.dims) >= LARGE:
            name, stored = tensor.name, f"{tensor.name}_half"
            halved = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(halved, stored))
            casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    for node in graph.node:  # names that the exporter made up of Python's are of no use here
        node.ClearField("doc_string")
    onnx.checker.check_model(model)
    onnx.save(model, path)


def precision(weights: Any, asked: Any, meant: Sequence[Predicate], scenes: Sequence[Scene]) -> Any:
    """Share of the ten best pictures that a query is true of, for each query, float64 [Q].

    Parameters
    ----------
    weights, asked : csr_array [N, V], [Q, V]
        Of the scenes and of the queries.
    meant : sequence of Predicate
        What each query says.
    scenes : sequence of Scene
    """
    scores = (unit_normalise(asked) @ unit_normalise(top_terms(weights, queries.TERMS)).T).toarray()
    best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    hits = [
        [matches(what, scenes[place]) for place in row]
        for what, row in zip(meant, best, strict=True)
    ]
    return np.mean(hits, axis=1)


def words_found(model: Any, seed: int, count: int = 500) -> dict[str, Any]:
    """Precision@10 of shapes, of colours, and of "a COLOUR SHAPE", on scenes of another seed."""
    scenes = make_scenes(count, seed)
    weights = model.encode_image([scene.draw() for scene in scenes])
    shapes = [Predicate((Pattern(shape=shape),)) for shape in SHAPES]
    colours = [Predicate((Pattern(colour=colour),)) for colour in COLOURS]
    both = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    phrases = [f"a {colour} {shape}" for colour, shape in both]
    meant = [Predicate((Pattern(shape=shape, colour=colour),)) for colour, shape in both]
    kinds = {
        "shapes": (list(SHAPES), shapes),
        "colours": (list(COLOURS), colours),
        "phrases": (phrases, meant),
    }
    found = {}
    for kind, (texts, predicates) in kinds.items():
        shares = precision(weights, model.encode_text(texts), predicates, scenes)
        found[kind] = dict(zip(texts, shares.tolist(), strict=True))
    return found


def recalls(models: Mapping[str, Any], bench: Workbench) -> dict[str, dict[str, float]]:
    """Recall of texts for the pictures of the test split, by model."""
    test = bench.settings.data.open(bench.settings.data.test)
    texts, owner = queries.captions_of(test)
    judged = relevance(owner, test.ids, test.qrels)
    pictures = [test.image(i) for i in range(len(test))]
    found = {}
    for name, model in models.items():
        shown = unit_normalise(top_terms(model.encode_image(pictures), queries.TERMS))
        asked = unit_normalise(model.encode_text(texts))
        found[name] = recall((asked @ shown.T).toarray(), judged)
    return found


def pack(network: LexLIP, bench: Workbench, chosen: Settings, made_by: str) -> dict[str, Any]:
    """Write the model into `chosen.out`; return its manifest.

    Raises
    ------
    LexLIPError
        When it is larger than `MOST`, or worse than the network by half a point of R@1.
    """
    out = Path(chosen.out)
    rounded = LexLIP.from_pretrained(str(network.name_or_path)).half().float()
    texts, owner = queries.captions_of(bench.train)
    pictures = queries.weights_of(rounded, bench, bench.train)
    table = queries.fit_table(rounded, texts, owner, pictures, chosen.queries)
    with atomic_directory(out) as new:
        export(rounded, new / FOLDER)
        for name in GRAPHS.values():
            halve(new / FOLDER / name)
        table.save_pretrained(new, fit=asdict(chosen.queries))
        write_sentence_files(new, table=True)
        files = digests(new)
        size = sum((new / name).stat().st_size for name in files)
        if size >= MOST:
            raise LexLIPError(f"the model has {size} bytes, {MOST} are allowed: make it smaller")
        spoken = ExportedLexLIP.from_pretrained(new)
        unread = ExportedLexLIP.from_pretrained(new, table=False)
        found = recalls({"network": network, "graphs": unread, "table": spoken}, bench)
        lost = found["network"]["R@1"] - found["graphs"]["R@1"]
        if lost > 0.005:
            raise LexLIPError(f"half precision costs {100 * lost:.1f} points of R@1: keep more")
        facts = {
            "format": FORMAT,
            "made_by": made_by,
            "settings": {name: asdict(chosen)[name] for name in MADE_WITH},
            "bytes": size,
            "test": found,
            "precision_at_10": words_found(spoken, chosen.scenes_seed),
            "scenes_seed": chosen.scenes_seed,
            "files": files,
        }
        write_json(new / MANIFEST, facts)
        load_shipped(new)
    return facts


def main(overrides: Overrides = None, config: Config = "scenes", run: Run = "runs/scenes") -> None:
    """Write RUN/stage2 as the model that the package ships."""
    assert config is not None and run is not None
    chosen = settings.load_as(Settings, config, overrides or [])
    mine = [one for one in overrides or [] if not one.startswith(("out=", "scenes_seed="))]
    bench = Workbench.open(config, [one for one in mine if not one.startswith("queries.")])
    network = LexLIP.from_pretrained(f"{run}/stage2")
    trained = read_json(Path(run, "stage2", MANIFEST))
    made_by = f"stage 1 and 2 of {config}, seed {trained['settings']['seed']}"
    facts = pack(network, bench, chosen, made_by)
    typer.echo(f"{chosen.out}: {facts['bytes']} bytes")
    for name, values in facts["test"].items():
        typer.echo(f"test, {name}: " + " ".join(f"{k} {100 * v:.1f}" for k, v in values.items()))
    for kind in ("shapes", "colours"):
        words = facts["precision_at_10"][kind].items()
        typer.echo(f"{kind}, P@10: " + " ".join(f"{word} {share:.1f}" for word, share in words))
    phrases = facts["precision_at_10"]["phrases"]
    typer.echo(f"a COLOUR SHAPE, P@10: {np.mean(list(phrases.values())):.2f}")


app = Job(main, Settings)

if __name__ == "__main__":
    app()
