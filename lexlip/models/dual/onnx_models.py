"""Dual encoders that onnxruntime runs, with tokenizers and numpy: no torch, no transformers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexlip.data.in_order import in_batches
from lexlip.errors import LexLIPError
from lexlip.models.dual.base import Vectors
from lexlip.models.dual.families import Family
from lexlip.models.dual.files import read_json
from lexlip.models.dual.graphs import MANIFEST, sampled
from lexlip.models.dual.text_tokens import TextTokens
from lexlip.models.onnx import open_session
from lexlip.models.pixels import Pixels, Prepared

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
_TEXT_OUTPUTS = ("text_embeds", "pooler_output")
_IMAGE_OUTPUTS = ("image_embeds", "pooler_output")


class Tower:
    """One graph: its session is opened when it first runs.

    Parameters
    ----------
    path : Path
    outputs : sequence of str
        Names of the vectors, the best first; a graph with one output needs none.
    """

    def __init__(self, path: Path, outputs: Sequence[str], device: str | None = None) -> None:
        self.path, self._outputs, self._device = path, outputs, device

    @cached_property
    def session(self) -> Any:
        """An onnxruntime.InferenceSession."""
        return open_session(self.path, device=self._device)

    @cached_property
    def _output(self) -> Any:
        outputs = {output.name: output for output in self.session.get_outputs()}
        named = next((outputs[name] for name in self._outputs if name in outputs), None)
        if named is None and len(outputs) > 1:
            raise LexLIPError(
                f"{self.path} gives {', '.join(outputs)}, but no vector: it should give "
                f"{self._outputs[0]}"
            )
        return named or next(iter(outputs.values()))

    @property
    def width(self) -> int | None:
        """Numbers of a vector, where the graph says it."""
        shape = self._output.shape
        return shape[-1] if len(shape) == 2 and isinstance(shape[-1], int) else None

    def run(self, values: Mapping[str, NDArray[Any]]) -> Vectors:
        """Inputs of a batch, by name, to vectors of any length, float32 [B, d].

        Raises
        ------
        LexLIPError
            When the graph asks for something else.
        """
        inputs = {entry.name: entry for entry in self.session.get_inputs()}
        taken = {name: _value(name, inputs, values, self.path) for name in inputs}
        first = next(iter(inputs.values())).shape[0]
        rows = len(next(iter(taken.values())))
        if not isinstance(first, int) or first == rows:
            return self._vectors(taken)
        parts = [  # a graph of a fixed number of rows
            self._vectors({n: _filled(value[at : at + first], first) for n, value in taken.items()})
            for at in range(0, rows, first)
        ]
        return np.concatenate(parts)[:rows]

    def _vectors(self, taken: Mapping[str, NDArray[Any]]) -> Vectors:
        found = self.session.run([self._output.name], dict(taken))[0]
        if found.ndim != 2:
            raise LexLIPError(f"{self.path} gives no vector per item, but {list(found.shape)}")
        return np.asarray(found, np.float32)


class OnnxDual:
    """A dual encoder in two graphs, which `lexlip.models.dual.onnx_open.open_onnx` opens.

    A text opens only the text graph, a picture only the other one.

    Parameters
    ----------
    name : str
        Folder or hub name.
    folder : Path
        Where its files are.
    files : sequence of str
        All that belong to it, as paths in the folder, the graphs first: text, vision.
    habits : Family
    tokens : callable
        Opens the TextTokens.
    pixels : Pixels
    limit : int
        Longest text in tokens.
    precision : str
    device : str
    """

    revision: str | None = None
    """Of a name on the hub: what was asked for."""

    def __init__(
        self,
        name: str,
        folder: Path,
        files: Sequence[str],
        habits: Family,
        tokens: Callable[[], TextTokens],
        pixels: Pixels,
        limit: int,
        precision: str,
        device: str | None = None,
    ) -> None:
        self.name_or_path, self.folder, self.files = name, folder, tuple(files)
        self.habits, self.precision = habits, precision
        self.family, self.prompt, self.languages = habits.name, habits.prompt, habits.languages
        self.max_text_length = limit
        self._tokens, self._pixels = tokens, pixels
        self.text = Tower(folder / files[0], _TEXT_OUTPUTS, device)
        self.vision = Tower(folder / files[1], _IMAGE_OUTPUTS, device)

    @cached_property
    def tokens(self) -> TextTokens:
        """The tokenizer with the model's limit and padding."""
        return self._tokens()

    @property
    def tokenizer(self) -> Any:
        """A tokenizers.Tokenizer."""
        return self.tokens.raw

    @cached_property
    def width(self) -> int:
        """Numbers of a vector, d."""
        opened = self.vision if "session" in vars(self.vision) else self.text
        return opened.width or self.text.run(self._inputs([""])).shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the model; see `lexlip.models.dual.graphs.sampled`.

        Of an export it is that of the network that was exported, as long as its files are those
        that were written then.
        """
        own = sampled(self.folder, self.files, self.picture_settings)
        exported = read_json(self.folder, MANIFEST)
        if isinstance(exported, Mapping) and exported.get("files") == own:
            return str(exported["model"])
        return own

    @property
    def picture_settings(self) -> Mapping[str, Any]:
        """Settings that decide how pictures become pixels."""
        return self._pixels.settings

    @property
    def image_side(self) -> int | None:
        """Pixels that the shorter side of a picture is decoded to at least; None for all."""
        return self._pixels.image_side

    def prepare_image(self, image: Any) -> Prepared:
        """Return one picture of any kind as the model sees it: bytes, small."""
        return self._pixels.prepare(image)

    def pixels(self, images: Sequence[Any]) -> dict[str, NDArray[np.float32]]:
        """Pictures of any kind to ``pixel_values``, float32 [B, 3, H, W]."""
        prepared = np.stack([self._pixels.resize(image) for image in images])
        return {"pixel_values": self._pixels.normalise(prepared)}

    def embed_text(self, texts: Sequence[str], batch_size: int = 128) -> Vectors:
        """Texts to unit vectors, float32 [N, d]; those of about one length go together."""
        rows = self.tokens.rows(list(texts))
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        parts = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
        found = [self.text.run(self._batch([rows[n] for n in part])) for part in parts]
        placed = self._unit(found)
        placed[order] = placed.copy()
        return placed

    def embed_image(self, images: Sequence[Any], batch_size: int = 32) -> Vectors:
        """Pictures (paths, bytes, arrays or PIL) to unit vectors, float32 [N, d]."""
        with closing(in_batches(self.prepare_image, images, batch_size)) as prepared:
            return self._unit(self.vision.run(self.pixels(part)) for part in prepared)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write its files, in this precision: the folder is complete.

        A file is linked where the file system can, and copied elsewhere.
        """
        target = Path(folder)
        manifest = [MANIFEST] if (self.folder / MANIFEST).is_file() else []
        for name in [*self.files, *manifest]:
            place, source = target / name, (self.folder / name).resolve()
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            try:
                os.link(source, place)
            except OSError:
                shutil.copyfile(source, place)

    def _inputs(self, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
        return self._batch(self.tokens.rows(texts))

    def _batch(self, rows: Sequence[Sequence[int]]) -> dict[str, NDArray[Any]]:
        ids, mask = self.tokens.batch(rows)
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}

    def _unit(self, parts: Iterable[Vectors]) -> Vectors:
        """Batches of vectors to unit rows [N, d]."""
        rows = list(parts)
        found = np.concatenate(rows) if rows else np.zeros((0, self.width), np.float32)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def _value(
    name: str, inputs: Mapping[str, Any], values: Mapping[str, NDArray[Any]], path: Path
) -> NDArray[Any]:
    found = values.get({"text": "input_ids", "image": "pixel_values"}.get(name, name))
    if found is None and len(inputs) == 1 and "pixel_values" in values:
        found = values["pixel_values"]
    if found is None or inputs[name].type not in _TYPES:
        raise LexLIPError(f"{path} takes {', '.join(inputs)}, which is no graph of a dual encoder")
    return np.asarray(found, _TYPES[inputs[name].type])


def _filled(rows: NDArray[Any], count: int) -> NDArray[Any]:
    """Rows and as many more, repeating the last one, as make up `count`."""
    return np.concatenate([rows, rows[-1:].repeat(count - len(rows), 0)])
