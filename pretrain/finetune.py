"""Stage 2 once more, usually on larger pictures (LexLIP: 224 px, then 384 px).

python -m pretrain.finetune --config lexlip-base --run runs/lexlip-base
"""

from __future__ import annotations

from dataclasses import replace

from lexlip.models.lexlip import LexLIP
from pretrain import build, loop
from pretrain.settings import Settings
from pretrain.stage2 import Stage2


def settings_for(settings: Settings) -> Settings:
    """Return the settings of a run as stage 2 must read them here."""
    size = settings.finetune.image_size or settings.model.image_size
    model = replace(settings.model, image_size=size)
    return replace(settings, model=model, stage2=settings.finetune)


def main(config: str, run: str, resume: bool, overrides: list[str]) -> None:
    """Train on from ``<run>/stage2`` and leave the checkpoint in ``<run>/finetune``."""
    bench = loop.Workbench.open(config, overrides)
    bench = replace(bench, settings=settings_for(bench.settings))
    start = loop.Checkpoint(f"{run}/stage2")
    start.require(2)
    model = build.load(start.path, bench.settings, LexLIP)
    task = Stage2(model, bench.settings)
    loop.train(task, bench, bench.settings.finetune, f"{run}/finetune", resume=resume)


app = loop.job(main)

if __name__ == "__main__":
    app()
