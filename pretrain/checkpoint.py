"""Checkpoints: written in full or not at all, checked when they are read, never pickled."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lexlip.errors import LexLIPError
from lexlip.models.card import CARD
from lexlip.models.digests import digests
from lexlip.models.sentence_files import SENTENCE_FILES
from lexlip.storage.files import MANIFEST, atomic_directory, read_json, sha256_file, write_json
from pretrain.task import Task

FORMAT = "lexlip-checkpoint/1"


@dataclass(frozen=True)
class Checkpoint:
    """A folder that is complete for searching, with the state of training in ``train_state/``."""

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
        """Write everything beside the old checkpoint, then swap: a kill leaves one of the two.

        Raises
        ------
        LexLIPError
            When the disk is full or cannot be written; the old checkpoint is as it was.
        """
        names = {id(p): n for n, p in task.named_parameters()}
        tensors = {
            f"optim.{names[id(p)]}.{key}": value
            for p, state in optimizer.state.items()
            for key, value in state.items()
        }
        for name, value in task.state_dict().items():
            if not name.startswith("model."):
                tensors[f"task.{name}"] = value.detach().contiguous()
        try:
            task.model.record = dict(progress)
            with atomic_directory(self.path) as folder:
                task.model.save_pretrained(folder)
                (folder / "train_state").mkdir()
                save_file(tensors, folder / "train_state" / "state.safetensors")
                write_json(folder / "train_state" / "progress.json", dict(progress))
                unread = (CARD, *SENTENCE_FILES)
                listed = {"format": FORMAT, **progress, "files": digests(folder, unread)}
                write_json(folder / MANIFEST, listed)
        except (OSError, SafetensorError) as error:
            kept = f"keeps step {self.progress['step']}" if self.progress else "holds no checkpoint"
            raise LexLIPError(
                f"{self.path} {kept}, step {progress['step']} could not be saved "
                f"({' '.join(str(error).split())}): make room, then go on with --resume"
            ) from error

    def verify(self) -> None:
        """Compare every file with the manifest; checkpoints from before it listed files pass.

        Raises
        ------
        LexLIPError
            When a file is missing or is not what was written.
        """
        listed = read_json(Path(self.path) / MANIFEST).get("files", {})
        for name, digest in sorted(listed.items()):
            file = Path(self.path) / name
            if not file.is_file() or sha256_file(file) != digest:
                what = "damaged" if file.is_file() else "missing"
                raise LexLIPError(
                    f"{file} is {what} (sha256 is in {MANIFEST}): put back a copy, "
                    "or train again without --resume"
                )

    def require(self, stage: int) -> None:
        """Refuse to start from a stage that is not there in full.

        Raises
        ------
        LexLIPError
            When the stage has not come to its end, or a file is not what was written.
        """
        if not self.finished:
            raise LexLIPError(
                f"{self.path} holds no finished stage {stage}: run make pretrain-stage{stage} first"
            )
        self.verify()

    def recover(self) -> None:
        """Tidy up after a kill in the middle of a save.

        Between its two renames the old and the new checkpoint both stand complete under hidden
        names: the one that is further takes its place. Half-written ones are deleted.
        """
        target = Path(os.path.realpath(self.path))
        hidden = f".{target.name}."
        left = [
            folder
            for folder in (target.parent.iterdir() if target.parent.is_dir() else ())
            if folder.name.startswith((f"{hidden}tmp-", f"{hidden}old-")) and folder.is_dir()
        ]
        if not target.exists():
            whole = [folder for folder in left if Checkpoint(folder)._whole()]
            if whole:
                best = max(whole, key=lambda folder: Checkpoint(folder).progress["step"])
                os.rename(best, target)
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)

    def _whole(self) -> bool:
        """Whether the folder was written to its end: the manifest comes last."""
        try:
            self.verify()
        except LexLIPError:
            return False
        return bool(self.progress)

    def restore(self, task: Task, optimizer: torch.optim.Optimizer) -> int:
        """Load weights and optimiser state in place; returns the next step."""
        self.verify()
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
