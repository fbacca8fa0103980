"""Ablation: short trainings that differ in one part of the recipe.

    python -m pretrain.studies.ablation --config flickr8k-tiny --run runs/ablation stage1.steps=64 stage2.steps=64
    python -m pretrain.studies.ablation --config flickr8k-tiny --run runs/ablation study=frontier ...

Every variant is trained by both stages, from the same seed, and measured on dev as training does.
Variants that change nothing in stage 1 share it. A finished variant is not trained again, so
that a study can be stopped, gone on with, and divided (``only="no queue"``).
"""  # noqa: E501

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from lexlip.cli.console import Config, Job, Overrides, Run
from lexlip.errors import LexLIPError
from lexlip.settings import option
from lexlip.storage.files import read_json, write_bytes, write_json
from pretrain import settings, stage1, stage2
from pretrain.checkpoint import Checkpoint

WHOLE = "whole"
STAGE1_ALONE = "stage 1 alone"
RANDOM_TEXT = (
    'model.text={model_type="bert", hidden_size=384, num_hidden_layers=6, '
    "num_attention_heads=12, intermediate_size=1536, max_position_embeddings=64}"
)


def _without(*losses: str) -> tuple[str, ...]:
    return tuple(
        f"{stage}.weights.{name}=0" for stage, _, name in (x.partition(".") for x in losses)
    )


OBJECTIVES: dict[str, tuple[str, ...]] = {
    WHOLE: (),
    "no queue": ("stage2.queue_size=0",),
    "no grounding in stage 2": _without("stage2.image_grounding", "stage2.text_grounding"),
    "no sparsity in stage 2": _without("stage2.image_sparsity", "stage2.text_sparsity"),
    "no grounding at all": _without(
        *("stage1.image_grounding", "stage1.text_grounding"),
        *("stage2.image_grounding", "stage2.text_grounding"),
    ),
    "no bottlenecks": _without("stage1.image_bottleneck", "stage1.text_bottleneck"),
    "no own MLM": _without("stage1.self_mlm"),
    "no contrast in stage 1": _without("stage1.contrast"),
    "no contrast within the batch": ("stage2.weights.batch_contrast=0",),
    "random text tower": (RANDOM_TEXT, "model.freeze_embeddings=false"),
}
"""Variants: parts that are removed, added, or made worse on purpose."""

FRONTIER: dict[str, tuple[str, ...]] = {
    **{
        name: OBJECTIVES[name] for name in (WHOLE, "no grounding in stage 2", "no grounding at all")
    },
    **{
        f"grounding {weight}": (
            f"stage2.weights.image_grounding={weight}",
            f"stage2.weights.text_grounding={weight}",
        )
        for weight in (0.1, 0.3, 3.0)
    },
}
"""Weights of grounding. Equal names share a folder."""

BUDGETS: dict[str, tuple[str, ...]] = {
    WHOLE: (),
    **{f"{terms} terms": (f"sparsity.target_terms={terms}",) for terms in (16, 32, 64)},
}
"""Budgets of terms, for stages of full length: a third of a pass is too short to reach them."""

STUDIES = {"objectives": OBJECTIVES, "frontier": FRONTIER, "budgets": BUDGETS}

COLUMNS = {
    "t2i_R@1": ("R@1", 100, 1),
    "t2i_R@5": ("R@5", 100, 1),
    "t2i_R@10": ("R@10", 100, 1),
    "grounded_p10": ("P@10", 1, 2),
    "image_terms": ("terms, picture", 1, 0),
    "text_terms": ("text", 1, 0),
    "overlap": ("in common", 1, 1),
    "dead_terms": ("dead (%)", 100, 0),
}
"""Measurement to its heading, factor and digits."""


def study(
    config: str,
    run: str,
    variants: Mapping[str, Sequence[str]],
    overrides: Sequence[str],
) -> dict[str, dict[str, float]]:
    """Train what is not trained yet.

    Parameters
    ----------
    config : str
    run : str
        Folder; each variant gets one below it.
    variants : mapping of str to sequence of str
        Overrides that make each variant.
    overrides : sequence of str
        For all of them.

    Returns
    -------
    dict of str to dict
        What was measured on dev after the last step of each variant, in its order.
    """
    found = {}
    for name, changes in variants.items():
        folder = Path(run) / name.replace(" ", "-")
        first = [c for c in changes if not c.startswith(("stage2.", "sparsity."))]
        shared = folder if first else Path(run) / WHOLE
        if not Checkpoint(shared / "stage1").finished:
            stage1.main(config, str(shared), True, [*overrides, *first])
        if shared != folder and not (folder / "stage1").exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "stage1").symlink_to(os.path.relpath(shared / "stage1", folder))
        if not Checkpoint(folder / "stage2").finished:
            stage2.main(config, str(folder), True, [*overrides, *changes])
        if name == WHOLE:
            found[STAGE1_ALONE] = measured(folder / "stage1")
        found[name] = measured(folder / "stage2")
    return found


def measured(checkpoint: Path) -> dict[str, float]:
    """Read what training measured on dev at the end."""
    return dict(Checkpoint(checkpoint).progress["dev"])


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Lay results out as Markdown.

    Examples
    --------
    >>> print(table({"whole": dict.fromkeys(COLUMNS, 0.25)}).splitlines()[2])
    | whole | 25.0 | 25.0 | 25.0 | 0.25 | 0 | 0 | 0.2 | 25 |
    """
    heads = ["variant", *(head for head, _, _ in COLUMNS.values())]
    lines = [heads, ["---"] * len(heads)]
    for name, row in found.items():
        cells = (f"{row[key] * by:.{digits}f}" for key, (_, by, digits) in COLUMNS.items())
        lines.append([name, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plot(found: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Draw recall against what words mean, a point for each variant."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    shares = [row["grounded_p10"] for row in found.values()]
    middle = (min(shares) + max(shares)) / 2
    for name, row in found.items():
        point = row["grounded_p10"], 100 * row["t2i_R@1"]
        axis.plot(*point, "o", color="C0")
        beside = {"ha": "right", "xytext": (-6, -3)} if point[0] > middle else {"xytext": (6, -3)}
        axis.annotate(name, point, textcoords="offset points", fontsize=8, **beside)
    axis.set(xlabel="grounded P@10: words that the captions have", ylabel="T2I R@1 (%)")
    axis.margins(0.15)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    write_bytes(path, buffer.getvalue())


@dataclass(frozen=True)
class Settings(settings.Settings):
    """A run's settings, and which variants of it are trained."""

    study: str = option("objectives", "objectives, frontier or budgets")
    only: tuple[str, ...] = option((), "names of variants; all by default")


def main(
    overrides: Overrides = None, config: Config = "scenes", run: Run = "runs/ablation"
) -> None:
    """Train variants of a recipe and compare them."""
    assert config is not None and run is not None
    chosen = settings.load_as(Settings, config, overrides or [])
    name, only = chosen.study, chosen.only
    if name not in STUDIES:
        raise LexLIPError(f"no study {name!r}: choose from {', '.join(STUDIES)}")
    variants = STUDIES[name]
    if unknown := set(only) - set(variants):
        raise LexLIPError(f"no variant {sorted(unknown)}: choose from {', '.join(variants)}")
    picked = {name: variants[name] for name in variants if not only or name in only}
    common = [one for one in overrides or [] if not one.startswith(("study=", "only="))]
    recipe = {"format": 1, "config": config, "overrides": common}
    noted = Path(run) / "recipe.json"
    if noted.exists() and read_json(noted) != recipe:
        raise LexLIPError(f"{run} holds a study with other settings: give another --run")
    write_json(noted, recipe)
    found = study(config, run, picked, common)
    path = Path(run) / f"{name}.json"
    old: dict[str, Any] = read_json(path)["variants"] if path.exists() else {}
    results = {name: {**old, **found}[name] for name in _ordered({**old, **found}, variants)}
    write_json(path, {**recipe, "variants": results})
    typer.echo(table(results))
    if name == "frontier":
        try:
            plot(results, path.with_suffix(".svg"))
        except ImportError:
            typer.echo("no plot: pip install matplotlib", err=True)
    typer.echo(f"\nwrote {path}")


def _ordered(found: Mapping[str, Any], variants: Mapping[str, Any]) -> list[str]:
    """Names in the order of the study."""
    return [name for name in (STAGE1_ALONE, *variants) if name in found]


app = Job(main, Settings)

if __name__ == "__main__":
    app()
