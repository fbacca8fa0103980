"""Encoding: pictures a second and memory of each way to run one model, beside a plain loop.

    python -m eval.studies.encoding

The model is a CLIP of the size of ViT-B/32 with random weights, which costs what a trained one
does. The pictures are JPEGs of 12 megapixels, drawn here. Each way has a process of its own, ways
take turns, and the median of the rounds is shown:

- loop: transformers as its documentation shows it, opening, preprocessing and encoding one picture
  after another, in batches of `batch`;
- torch: lexlip with the same network;
- onnx: lexlip with its graph in 32 bits;
- onnx int8: the graph in 8 bits.

Texts are short, as a lexicon's are.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import typer
from PIL import Image

from eval.bench import report
from lexlip.cli.console import Job, Overrides
from lexlip.errors import LexLIPError
from lexlip.models.runtime import quiet, set_threads
from lexlip.settings import from_overrides, option
from lexlip.storage.files import write_json

WAYS = ("loop, batch of 1", "loop", "torch", "onnx", "onnx int8")
HEADS = ("way", "pictures/s", "times the loop", "texts/s", "MB")
_TINY = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {"b32": {}, "tiny": _TINY}
"""Settings of both towers; what is left out is as ViT-B/32 has it."""


@dataclass(frozen=True)
class Settings:
    """Settings of the study; each field is a key."""

    pictures: int = option(24, "pictures to draw")
    texts: int = option(1024, "texts to encode")
    batch: int = option(32, "pictures of a batch")
    rounds: int = option(3, "turns of each way")
    threads: int = option(0, "threads of a process; 0 for those it takes by itself")
    megapixels: float = option(12.0, "of a picture")
    size: str = option("b32", "of the model: b32, or tiny for a trial")
    out: str = option("", "JSON file to write the table to")


def draw_photo(seed: int, megapixels: float = 12.0) -> Image.Image:
    """Draw soft colours and grain, which fill as many bytes of JPEG as a photograph does."""
    unit = (megapixels * 1e6 / 12) ** 0.5
    shape = round(3 * unit), round(4 * unit)
    noise = np.random.default_rng(seed)
    coarse = Image.fromarray(noise.integers(0, 256, (12, 16, 3), np.uint8))
    soft = np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC), np.int16)
    grain = noise.integers(-9, 10, (*shape, 1), np.int16)
    return Image.fromarray((soft + grain).clip(0, 255).astype(np.uint8))


def make_model(folder: Path, size: str = "b32") -> None:
    """Write a CLIP of ViT-B/32's size with random weights, and its graphs in 32 and 8 bits."""
    import torch
    import transformers
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from lexlip.models.dual.transformers_models import open_transformers

    torch.manual_seed(0)
    letters = [chr(code) for code in range(33, 127)]
    names = [*letters, *(f"{letter}</w>" for letter in letters)]
    names += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(
        vocab={name: number for number, name in enumerate(names)}, merges=[], model_max_length=77
    )
    ends = {"bos_token_id": len(names) - 2, "eos_token_id": len(names) - 1}
    config = transformers.CLIPConfig(
        text_config={**SIZES[size], **ends},
        vision_config=SIZES[size],
    )
    plain = folder / "plain"
    transformers.CLIPModel(config).save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    transformers.CLIPImageProcessorPil().save_pretrained(plain)
    open_transformers(plain).save_pretrained(folder)
    for graph in ("text_model", "vision_model"):
        quantize_dynamic(
            folder / "onnx" / f"{graph}.onnx",
            folder / "onnx" / f"{graph}_quantized.onnx",
            weight_type=QuantType.QUInt8,
        )


def measure(
    way: str, folder: str, pictures: list[str], texts: list[str], batch: int, threads: int
) -> tuple[float, float, float]:
    """Encode pictures and texts in one way: pictures a second, texts a second, MB at the peak."""
    quiet()
    if threads:
        set_threads(threads)
    see, read = _loop(folder) if way.startswith("loop") else _lexlip(way, folder)
    size = 1 if way.endswith("of 1") else batch
    see(pictures[:1], 1)
    started = time.perf_counter()
    see(pictures, size)
    seen = len(pictures) / (time.perf_counter() - started)
    read(texts[:2], 2)
    started = time.perf_counter()
    read(texts, 128)
    told = len(texts) / (time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return seen, told, peak / (2**20 if sys.platform == "darwin" else 2**10)


Encode = Callable[[list[str], int], Any]


def _loop(folder: str) -> tuple[Encode, Encode]:
    import torch
    import transformers

    place = Path(folder) / "plain"
    model = transformers.CLIPModel.from_pretrained(place).eval()
    eye = transformers.CLIPImageProcessorPil.from_pretrained(place)
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)

    @torch.no_grad()
    def see(paths: list[str], size: int) -> None:
        for at in range(0, len(paths), size):
            images = [Image.open(path).convert("RGB") for path in paths[at : at + size]]
            model.get_image_features(**eye(images=images, return_tensors="pt"))

    @torch.no_grad()
    def read(texts: list[str], size: int) -> None:
        for at in range(0, len(texts), size):
            tokens = tokenizer(texts[at : at + size], padding=True, return_tensors="pt")
            model.get_text_features(**tokens)

    return see, read


def _lexlip(way: str, folder: str) -> tuple[Encode, Encode]:
    from lexlip.models.dual import open_dual_encoder
    from lexlip.models.runtime import share_cores

    share_cores()
    place, precision = (f"{folder}/plain", None) if way == "torch" else (folder, "fp32")
    encoder = open_dual_encoder(place, precision="int8" if "int8" in way else precision)
    return lambda paths, n: encoder.embed_image(list(map(Path, paths)), n), encoder.embed_text


def apart(work: Callable[..., Any], *given: Any) -> Any:
    """Return the result of some work that is done in a new process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(work, *given).result()


def table(results: dict[str, list[tuple[float, float, float]]]) -> list[list[str]]:
    """Medians of each way's rounds."""
    middle = {
        way: [median(row) for row in zip(*rows, strict=True)] for way, rows in results.items()
    }
    base = middle[WAYS[1]][0]
    return [
        [way, f"{seen:.2f}", f"{seen / base:.2f}", f"{told:.0f}", f"{peak:.0f}"]
        for way, (seen, told, peak) in middle.items()
    ]


def main(overrides: Overrides = None) -> None:
    """Encode the same pictures and texts in each way."""
    settings = from_overrides(Settings, overrides or [])
    if settings.size not in SIZES:
        raise LexLIPError(f"no size {settings.size!r}: give one of {', '.join(SIZES)}")
    quiet()
    results: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="lexlip-eval-") as kept:
        folder = Path(kept)
        apart(make_model, folder, settings.size)
        pictures = []
        for number in range(settings.pictures):
            pictures.append(str(folder / f"{number}.jpg"))
            draw_photo(number, settings.megapixels).save(pictures[-1], quality=90)
        size = sum(Path(path).stat().st_size for path in pictures) / len(pictures)
        texts = [f"a photo of a {number:x}" for number in range(settings.texts)]
        for _ in range(settings.rounds):
            for way in WAYS:
                job = (way, kept, pictures, texts, settings.batch, settings.threads)
                results[way].append(apart(measure, *job))
    what = f"{len(pictures)} JPEGs of {settings.megapixels:g} megapixels, {size / 1e6:.1f} MB each"
    typer.echo("\n".join([what, *report.aligned(HEADS, table(results), 1)]))
    if settings.out:
        write_json(Path(settings.out), {"settings": asdict(settings), "results": results})


app = Job(main, Settings)

if __name__ == "__main__":
    app()
