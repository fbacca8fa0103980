"""The training loop: one for both stages and the control, in plain sight."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_array
from torch import Tensor, nn
from tqdm import tqdm

from lexlip.data.collection import Collection, read_texts
from lexlip.errors import LexLIPError
from lexlip.files import atomic_directory, read_json, write_json
from lexlip.model import LexLIPPreTrainedModel
from lexlip.settings import resolve
from pretrain import settings as settings_module
from pretrain.cache import cached_features, cached_pixels
from pretrain.data import Pairs
from pretrain.settings import Settings, Stage
from pretrain.validate import relevance, validate


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
    """Settings with the collections they name."""

    settings: Settings
    train: Collection
    dev: Collection
    extra: list[str]

    @classmethod
    def open(cls, config: str, overrides: list[str]) -> Workbench:
        """Read the settings and open (or draw) the data."""
        settings = settings_module.load(config, overrides)
        if settings.precision == "auto":
            settings = replace(settings, precision="bf16" if fast_bf16() else "no")
        data = settings.data
        train, dev = data.open(data.train), data.open(data.dev)
        if data.exclude:
            train = train.without(set(read_json(resolve(data.exclude))))
        extra = [text for path in data.texts for text in read_texts(resolve(path))]
        return cls(settings, train, dev, extra)

    @property
    def texts(self) -> list[str]:
        """All training captions: those of pictures first."""
        return [c for captions in self.train.captions for c in captions] + self.extra

    def pairs(self, model: LexLIPPreTrainedModel, collection: Collection, train: bool) -> Pairs:
        """Tokenised captions beside cached pixels or, with a frozen trunk, cached features."""
        data, frozen = self.settings.data, self.settings.model.freeze_vision
        assert model.processor is not None
        if frozen:
            views = cached_features(model, collection, data.cache, flip=data.flip and train)
        else:
            views = cached_pixels(collection, model.processor, data.cache)
        lexicon = getattr(model, "lexicon", None) or _all_words(model)
        extra = self.extra if train else ()
        length = self.settings.model.max_text_length
        return Pairs.of(collection, views, model.processor.tokenizer, lexicon, length, extra)


def _all_words(model: LexLIPPreTrainedModel) -> Any:
    from lexlip.lexicon import Lexicon

    assert model.processor is not None
    return Lexicon.from_tokenizer(model.processor.tokenizer)


@dataclass(frozen=True)
class Checkpoint:
    """A folder that stands alone for searching, with what training needs in ``train_state/``."""

    path: str | Path

    @property
    def progress(self) -> dict[str, Any]:
        """Step, steps and metrics of the checkpoint; empty where there is none."""
        file = Path(self.path) / "train_state" / "progress.json"
        return read_json(file) if file.exists() else {}

    @property
    def finished(self) -> bool:
        """Whether training reached its last step."""
        progress = self.progress
        return bool(progress) and progress["step"] >= progress["steps"]

    def save(
        self, task: Task, optimizer: torch.optim.Optimizer, progress: Mapping[str, Any]
    ) -> None:
        """Write everything beside the old checkpoint, then swap: a kill leaves one of the two."""
        names = {id(p): n for n, p in task.named_parameters()}
        tensors = {
            f"optim.{names[id(p)]}.{key}": value.clone()
            for p, state in optimizer.state.items()
            for key, value in state.items()
        }
        for name, value in task.state_dict().items():
            if not name.startswith("model."):
                tensors[f"task.{name}"] = value.detach().clone().contiguous()
        with atomic_directory(self.path) as folder:
            task.model.save_pretrained(folder)
            (folder / "train_state").mkdir()
            save_file(tensors, folder / "train_state" / "state.safetensors")
            write_json(folder / "train_state" / "progress.json", dict(progress))
            write_json(folder / "manifest.json", {"format": "lexlip-checkpoint/1", **progress})

    def restore(self, task: Task, optimizer: torch.optim.Optimizer) -> int:
        """Load weights and optimiser state in place; returns the next step."""
        # Not the file itself: transformers writes some towers' weights under other names.
        task.model.load_state_dict(type(task.model).from_pretrained(self.path).state_dict())
        tensors = load_file(Path(self.path) / "train_state" / "state.safetensors")
        own = {k.removeprefix("task."): v for k, v in tensors.items() if k.startswith("task.")}
        task.load_state_dict(own, strict=False)
        for name, parameter in task.named_parameters():
            prefix = f"optim.{name}."
            state = {
                k.removeprefix(prefix): v.to(parameter.device)
                for k, v in tensors.items()
                if k.startswith(prefix)
            }
            if state:
                optimizer.state[parameter] = state
        return int(self.progress["step"])


class Task(nn.Module):
    """A model with its losses: a batch in, named losses out.

    Attributes
    ----------
    model : LexLIP or DenseDualEncoder
        What the checkpoint is for; everything else of a task lives in ``train_state/``.
    weights : dict of str to float
        Weight of each loss in the sum that is minimised; names that end in ``sparsity`` ramp up.
    ramps : bool
        Whether they do; a model that is sparse already need not bloom again.
    """

    model: Any
    weights: dict[str, float]
    ramps: bool = True

    def after_step(self) -> None:
        """Do what follows an optimiser step; nothing by default."""

    def validate(self, dev: Pairs, relevant: csr_array, texts: list[str]) -> dict[str, float]:
        """Measure the model on dev after each epoch: by default as a first stage."""
        return validate(self.model, dev, relevant, texts)


def merge_weights(defaults: Mapping[str, float], chosen: Mapping[str, float]) -> dict[str, float]:
    """Loss weights with the run's own choices; an unknown loss is an error."""
    unknown = set(chosen) - set(defaults)
    if unknown:
        raise LexLIPError(f"no loss named {sorted(unknown)}; there are {sorted(defaults)}")
    return {**defaults, **chosen}


def features(model: Any, pictures: np.ndarray) -> Tensor:
    """A cached batch to trunk features: bytes go through the trunk, features already did."""
    if pictures.dtype == np.uint8:
        assert model.processor is not None
        return model.vision.features(model.processor.normalise(pictures).to(model.device))
    return torch.from_numpy(pictures.astype(np.float32)).to(model.device)


def optimizer_for(task: Task, settings: Settings, stage: Stage) -> torch.optim.AdamW:
    """AdamW: low rate for pretrained trunks, no decay for biases, norms and the own-word boost."""
    pretrained = [
        prefix
        for prefix, tower in (
            ("model.vision.trunk.", settings.model.vision),
            ("model.text.trunk.", settings.model.text),
            ("model.heads.text.layers.", settings.model.text),  # which begin as the trunk's
        )
        if isinstance(tower, str)
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


def set_dropout(model: LexLIPPreTrainedModel, share: float) -> None:
    """Set the dropout of what a stage trains: text tower, neck, private layers of the heads."""
    heads = getattr(model, "heads", None)
    private = [heads.text.layers, heads.image.layers] if heads is not None else []
    for part in (model.vision.neck, model.text.trunk, *private):
        for module in part.modules():
            if isinstance(module, nn.Dropout):
                module.p = share


def rate(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up, then linear to zero: the factor on the learning rate at a step."""
    rise = max(1, round(warmup * steps))
    return min((step + 1) / rise, (steps - step) / max(1, steps - rise), 1.0)


def ramp(step: int, steps: int) -> float:
    """Quadratic rise over the first third: sparsity from the start would kill every word."""
    return min(1.0, (3 * step / max(1, steps)) ** 2)


def train(task: Task, bench: Workbench, stage: Stage, out: str, resume: bool = False) -> None:
    """Train a task and leave a finished checkpoint in `out`, metrics in ``<out>.jsonl``."""
    settings, model, checkpoint = bench.settings, task.model, Checkpoint(out)
    if checkpoint.finished and resume:
        print(f"{out} is finished already")
        return
    accelerator = Accelerator(mixed_precision=settings.precision)
    pairs, dev = bench.pairs(model, bench.train, True), bench.pairs(model, bench.dev, False)
    judged = relevance(dev, bench.dev.ids, bench.dev.qrels)
    dev_texts = [c for captions in bench.dev.captions for c in captions]
    set_dropout(model, stage.dropout)
    optimizer = optimizer_for(task, settings, stage)
    task.to(accelerator.device).train()
    per_epoch = pairs.steps(stage.batch_size)
    steps = stage.epochs * per_epoch
    first = checkpoint.restore(task, optimizer) if resume and checkpoint.progress else 0
    log = Path(f"{out}.jsonl")
    log.parent.mkdir(parents=True, exist_ok=True)
    if not first:
        log.unlink(missing_ok=True)  # rows of an earlier run would mix with this one's
    began, metrics = time.perf_counter(), {}
    bar = tqdm(total=steps, initial=first, desc=Path(out).name, unit="step", mininterval=2)

    for epoch in range(first // per_epoch, stage.epochs):
        start = max(0, first - epoch * per_epoch)
        batches = pairs.batches(
            settings.seed, epoch, stage.batch_size, stage.texts_per_batch, start
        )
        for step, batch in enumerate(batches, epoch * per_epoch + start):
            # All randomness of a step comes from its number: resuming needs no generator state.
            generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
            torch.manual_seed(settings.seed * 1_000_003 + step)  # dropout's own
            with accelerator.autocast():
                losses = task(_to(batch, accelerator.device), generator)
            total = sum(
                losses[k] * w * (ramp(step, steps) if task.ramps and k.endswith("sparsity") else 1)
                for k, w in task.weights.items()
                if w
            )
            if not torch.isfinite(total):  # type: ignore[arg-type]
                raise LexLIPError(
                    f"loss is {total} at step {step} of {out}: lower the learning rate"
                )
            accelerator.backward(total)
            accelerator.clip_grad_norm_(task.parameters(), stage.clip)
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * rate(step, steps, stage.warmup)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            task.after_step()
            done = step + 1
            if done % per_epoch == 0:
                model.eval()
                with accelerator.autocast():
                    metrics = task.validate(dev, judged, dev_texts)
                task.train()
                bar.write(json.dumps({"epoch": epoch + 1, **_round(metrics)}))
            if done % 20 == 0 or done % per_epoch == 0:
                row = {
                    "step": done,
                    "seconds": time.perf_counter() - began,
                    **{k: v.item() for k, v in losses.items()},
                }
                row |= metrics if done % per_epoch == 0 else {}
                with log.open("a") as file:
                    file.write(json.dumps(_round(row)) + "\n")
                bar.set_postfix(
                    {k[:12]: f"{v.item():.3g}" for k, v in losses.items()}, refresh=False
                )
            if done % stage.save_every == 0 or done == steps:
                seconds = time.perf_counter() - began
                progress = {
                    "step": done,
                    "steps": steps,
                    "seconds": seconds,
                    "dev": metrics,
                    "settings": asdict(settings),
                }
                checkpoint.save(task, optimizer, progress)
            bar.update()
    bar.close()
    print(f"{out}: {steps} steps in {time.perf_counter() - began:.0f} s; dev {_round(metrics)}")


def _to(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    return {
        k: v.to(device) if isinstance(v, Tensor) else _to(v, device) if isinstance(v, dict) else v
        for k, v in batch.items()
    }


def _round(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}


def cli(main: Callable[[str, str, bool, list[str]], None]) -> None:
    """The command line of every training module: a config, a run folder, dotted overrides."""

    def command(
        overrides: Annotated[list[str] | None, typer.Argument(help="stage1.lr=1e-4 ...")] = None,
        config: Annotated[
            str, typer.Option(help="TOML file or the name of a shipped one")
        ] = "scenes",
        run: Annotated[str, typer.Option(help="folder of this run")] = "runs/scenes",
        resume: Annotated[bool, typer.Option(help="go on from the last checkpoint")] = False,
    ) -> None:
        try:
            main(config, run, resume, overrides or [])
        except LexLIPError as error:
            typer.echo(f"lexlip: {error}", err=True)
            raise typer.Exit(2) from None

    typer.run(command)
