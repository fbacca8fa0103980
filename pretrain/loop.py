"""The training loop: one for both stages and the control, in plain sight."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from tqdm import tqdm

from lexlip.cli.console import Config, Job, Overrides, Run
from lexlip.data.collection import Collection, read_texts
from lexlip.errors import LexLIPError
from lexlip.models.pretrained import TwoTowers
from lexlip.settings import resolve
from lexlip.storage.files import read_json
from pretrain import settings as settings_module
from pretrain import tracking
from pretrain.cache import cached_features, cached_pixels
from pretrain.checkpoint import Checkpoint
from pretrain.data import Pairs
from pretrain.micro_batches import Backward
from pretrain.parallel import World, batch_norms, share_statistics
from pretrain.progress import BadSteps, Log, rounded
from pretrain.settings import Settings, Stage
from pretrain.task import Task, features, merge_weights
from pretrain.validate import relevance

__all__ = ["Checkpoint", "Task", "Workbench", "features", "job", "merge_weights", "train"]


def fast_bf16() -> bool:
    """Whether this machine multiplies bf16 in hardware.

    Where it is emulated it is no bargain: a core without AVX-512 made 0.9 GFLOPS of it and 87 of
    float32 (1,024 x 1,024 matrices); one with AMX is some seven times faster in bf16.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


@dataclass(frozen=True)
class Workbench:
    """Settings with the collections they name, and the processes that work on them."""

    settings: Settings
    train: Collection
    dev: Collection
    extra: list[str]
    world: World = field(default_factory=World)

    @classmethod
    def open(cls, config: str, overrides: list[str]) -> Workbench:
        """Read the settings, meet the other processes, and open (or draw) the data."""
        settings = settings_module.load(config, overrides)
        if settings.precision == "auto":
            settings = replace(settings, precision="bf16" if fast_bf16() else "no")
        data, world = settings.data, World.join(settings.processes, settings.patience)
        with world.main_first():
            train, dev = data.open(data.train), data.open(data.dev)
        if data.exclude:
            train = train.without(set(read_json(resolve(data.exclude))))
        extra = [text for path in data.texts for text in read_texts(resolve(path))]
        return cls(settings, train, dev, extra, world)

    @property
    def texts(self) -> list[str]:
        """All training captions: those of pictures first."""
        return [c for captions in self.train.captions for c in captions] + self.extra

    def pairs(self, model: TwoTowers, collection: Collection, train: bool) -> Pairs:
        """Tokenised captions beside cached pixels or, with a frozen trunk, cached features."""
        data, frozen = self.settings.data, self.settings.model.freeze_vision
        assert model.processor is not None
        with self.world.main_first():
            if frozen:
                drawn = (data.flip, data.crops) if train else (False, 0)
                views = cached_features(model, collection, data.cache, *drawn)
            else:
                views = cached_pixels(collection, model.processor, data.cache)
        lexicon = getattr(model, "lexicon", None) or _all_words(model)
        extra = self.extra if train else ()
        length = self.settings.model.max_text_length
        return Pairs.of(collection, views, model.processor.tokenizer, lexicon, length, extra)


def _all_words(model: TwoTowers) -> Any:
    from lexlip.lexicon import Lexicon

    assert model.processor is not None
    return Lexicon.from_tokenizer(model.processor.tokenizer)


def optimizer_for(task: Task, settings: Settings, stage: Stage) -> torch.optim.AdamW:
    """AdamW: low rate for pretrained trunks, no decay for biases, norms and the own-word boost."""
    pretrained = [
        prefix
        for prefix, tower in (
            ("model.vision.trunk.", "vision"),
            ("model.text.trunk.", "text"),
            ("model.heads.text.layers.", "text"),  # which begin as the trunk's
        )
        if tower in settings.model.pretrained
    ]
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in task.named_parameters():
        if parameter.requires_grad:
            rate = stage.lr if name.startswith(tuple(pretrained)) else stage.head_lr
            decay = stage.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "lr": r, "base": r, "weight_decay": d} for (r, d), p in groups.items()],
        fused=True,
    )


def set_dropout(model: TwoTowers, share: float) -> None:
    """Set the dropout of what a stage trains: text tower, neck, private layers of the heads."""
    heads = getattr(model, "heads", None)
    private = [heads.text.layers, heads.image.layers] if heads is not None else []
    for part in (model.vision.neck, model.text.trunk, *private):
        for module in part.modules():
            if isinstance(module, nn.Dropout):
                module.p = share


def forget_activations(model: TwoTowers) -> None:
    """Let the trunks compute their activations again when the gradient needs them.

    Raises
    ------
    LexLIPError
        Where transformers cannot do that with a trunk.
    """
    for name, trunk in (("vision", model.vision.trunk), ("text", model.text.trunk)):
        if not trunk.supports_gradient_checkpointing:
            kind = trunk.config.model_type
            raise LexLIPError(
                f"the {name} trunk ({kind}) has no gradient checkpointing: leave "
                "model.gradient_checkpointing out and set micro_batch instead"
            )
        trunk.gradient_checkpointing_enable({"use_reentrant": False})


def rate(step: int, steps: int, warmup: float, last: float = 0.0) -> float:
    """Linear warm-up, then linear to `last`: the factor on the learning rate at a step."""
    rise = max(1, round(warmup * steps))
    left = min(1.0, (steps - step) / max(1, steps - rise))
    return min((step + 1) / rise, last + (1 - last) * left)


def ramp(step: int, steps: int) -> float:
    """Quadratic rise over the first third: sparsity from the start would kill every word."""
    return min(1.0, (3 * step / max(1, steps)) ** 2)


def weighted_sum(task: Task, ramped: float, losses: Mapping[str, Tensor]) -> Tensor:
    """The minimised sum, or these losses' share of it."""
    terms = [
        losses[k] * w * task.factor(k, ramped) for k, w in task.weights.items() if w and k in losses
    ]
    return torch.as_tensor(sum(terms))


def micro_batches(task: Task, stage: Stage, world: World, rows: int) -> int:
    """Parts in which each process works on its rows of a batch.

    Raises
    ------
    LexLIPError
        When the batch cannot be divided so.
    """
    own = -(-rows // world.size)
    parts = -(-own // (stage.micro_batch or own))
    if parts * world.size > 1 and not task.divisible:
        raise LexLIPError(
            f"{type(task).__name__} trains in one process and without micro batches: "
            "set micro_batch=0 and start it without torchrun"
        )
    if parts * world.size > rows:
        raise LexLIPError(
            f"a batch of {rows} cannot be divided into {parts} micro batches for each of "
            f"{world.size} processes: start fewer, or enlarge batch_size"
        )
    together = stage.captions_together
    if (
        together < 1
        or rows % together
        or (together > 1 and rows // together % (parts * world.size))
    ):
        raise LexLIPError(
            f"a batch of {rows} captions, {together} of each picture, cannot be divided into "
            f"{parts} micro batches for each of {world.size} processes: change captions_together"
        )
    if parts > 1 and batch_norms(task.model):
        raise LexLIPError(
            "the vision trunk has batch normalisation, whose statistics micro batches would "
            "change: set micro_batch=0, or freeze it (model.freeze_vision=true)"
        )
    return parts


def check_looks(task: Task, looks: int, views: int) -> None:
    """Refuse looks that a task has no use for, and more of them than there are views.

    Raises
    ------
    LexLIPError
    """
    if looks and not task.takes_looks:
        raise LexLIPError(f"{type(task).__name__} takes one look at a picture: leave looks out")
    if not 0 <= looks <= views:
        raise LexLIPError(
            f"looks is {looks}, but a picture has {views} views: enlarge data.crops, "
            "for a frozen vision trunk"
        )


def train(task: Task, bench: Workbench, stage: Stage, out: str, resume: bool = False) -> None:
    """Train a task and leave a finished checkpoint in `out`, metrics in ``<out>.jsonl``."""
    settings, world, model, checkpoint = bench.settings, bench.world, task.model, Checkpoint(out)
    with world.main_first():
        if world.main:
            checkpoint.recover()
    if checkpoint.finished and resume:
        print(f"{out} is finished already")
        return
    accelerator = tracking.accelerator_for(settings, out)
    pairs, dev = bench.pairs(model, bench.train, True), bench.pairs(model, bench.dev, False)
    check_looks(task, stage.looks, pairs.views.shape[1])
    judged = relevance(dev.image, bench.dev.ids, bench.dev.qrels)
    dev_texts = [c for captions in bench.dev.captions for c in captions]
    together = stage.captions_together
    parts = micro_batches(task, stage, world, min(stage.batch_size, pairs.rows(together)))
    set_dropout(model, stage.dropout)
    if settings.model.gradient_checkpointing:
        forget_activations(model)
    optimizer = optimizer_for(task, settings, stage)
    if world.size > 1:
        share_statistics(model)
    task.to(accelerator.device).train()
    backward = Backward(task, world, parts, accelerator.autocast)
    per_epoch = pairs.steps(stage.batch_size, together)
    steps = stage.steps or stage.epochs * per_epoch
    first = checkpoint.restore(task, optimizer) if resume and checkpoint.progress else 0
    bad = BadSteps(
        out, stage.max_bad_steps, **(checkpoint.progress.get("bad", {}) if first else {})
    )
    log = Log(Path(f"{out}.jsonl"), first) if world.main else None
    began, metrics = time.perf_counter(), dict[str, float]()
    quiet: dict[str, Any] = {} if world.main else {"disable": True}
    bar = tqdm(total=steps, initial=first, desc=Path(out).name, unit="step", mininterval=2, **quiet)

    for epoch in range(first // per_epoch, -(-steps // per_epoch)):
        start = max(0, first - epoch * per_epoch)
        batches = pairs.batches(
            settings.seed,
            epoch,
            stage.batch_size,
            stage.texts_per_batch,
            start,
            share=(world.rank, world.size),
            together=together,
            looks=stage.looks,
        )
        for step, batch in enumerate(batches, epoch * per_epoch + start):
            if step == steps:
                break
            # All randomness of a step comes from its number: resuming needs no generator state.
            chance = settings.seed * 1_000_003 + step
            task.step, task.progress = step, step / steps
            weigh = partial(weighted_sum, task, ramp(step, steps))
            statistics = [buffer.clone() for buffer in model.buffers()]
            losses = backward(_to(batch, accelerator.device), chance, weigh)
            norm = accelerator.clip_grad_norm_(task.parameters(), stage.clip)
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * rate(step, steps, stage.warmup, stage.last_rate)
            # Losses and gradients are those of the whole batch: all processes agree.
            if skip := bad.is_bad(step, weigh(losses).item(), norm.item()):
                for buffer, old in zip(model.buffers(), statistics, strict=True):
                    buffer.copy_(old)
            else:
                optimizer.step()
                task.after_step()
            optimizer.zero_grad(set_to_none=True)

            done = step + 1
            ends = done % per_epoch == 0 or done == steps
            if not log:
                if ends:
                    world.meet()
                continue
            if ends:
                model.eval()
                with accelerator.autocast():
                    metrics = task.validate(dev, judged, dev_texts)
                task.train()
                bar.write(json.dumps({"epoch": epoch + 1, **rounded(metrics)}))
            if done % 20 == 0 or ends or skip:
                values = {k: v.item() for k, v in losses.items()} | task.report()
                row = {"step": done, "seconds": time.perf_counter() - began, **values}
                row |= {"skipped": bad.skipped, **(metrics if ends else {})}
                log.write(row)
                tracking.track(accelerator, row)
                bar.set_postfix({k[:12]: f"{v:.3g}" for k, v in values.items()}, refresh=False)
            if (done % stage.save_every == 0 and not bad.in_a_row) or done == steps:
                progress = {
                    "step": done,
                    "steps": steps,
                    "seconds": time.perf_counter() - began,
                    "bad": {"skipped": bad.skipped, "in_a_row": bad.in_a_row},
                    "dev": metrics,
                    "settings": asdict(settings),
                }
                checkpoint.save(task, optimizer, progress)
            if ends:
                world.meet()  # dev is measured by the first process alone
            bar.update()
    bar.close()
    tracking.finish(accelerator)
    if world.main:
        seconds = time.perf_counter() - began
        print(f"{out}: {steps} steps in {seconds:.0f} s; dev {rounded(metrics)}")


def _to(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    return {
        k: v.to(device) if isinstance(v, Tensor) else _to(v, device) if isinstance(v, dict) else v
        for k, v in batch.items()
    }


def job(main: Callable[[str, str, bool, list[str]], None]) -> Job:
    """Return the command line of a training module: a config, a run folder, overrides."""

    def command(
        overrides: Overrides = None,
        config: Config = "scenes",
        run: Run = "runs/scenes",
        resume: Annotated[bool, typer.Option(help="go on from the last checkpoint")] = False,
    ) -> None:
        assert config is not None and run is not None
        main(config, run, resume, overrides or [])
        World.leave()

    command.__doc__ = main.__doc__
    return Job(command, Settings)
