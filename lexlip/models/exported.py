"""A trained LexLIP in onnxruntime: what searching needs of it, without torch.

``lexlip index`` writes the export beside the checkpoint (`lexlip.models.export`), and
`lexlip.models.load` takes it. What it has no graph for (views for rerankers, alignment) is asked of
the network, which is loaded then.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from scipy.sparse import csr_array, vstack

from lexlip.data.given import as_pictures
from lexlip.data.in_order import in_batches
from lexlip.errors import LexLIPError, require
from lexlip.lexicon import Lexicon
from lexlip.models.digests import check_digests
from lexlip.models.export_files import FORMAT, GRAPHS, LEXICON, TOKENIZER, export_folder
from lexlip.models.fingerprints import check_same
from lexlip.models.levels import Levels, levels_of
from lexlip.models.localisation.base import (
    Numbers,
    PooledPicture,
    PooledText,
    ReadText,
    saturated,
)
from lexlip.models.localisation.results import Provenance, TextProvenance, WordPatches
from lexlip.models.onnx import open_session
from lexlip.models.pixels import Pixels
from lexlip.models.query_table import QueryTable, is_table
from lexlip.models.speaker import SpeakerMixin
from lexlip.models.windows import Windows, in_windows, pool_words
from lexlip.models.word_tokenizer import WordTokenizer
from lexlip.storage.files import MANIFEST, read_json
from lexlip.storage.views import Views

if TYPE_CHECKING:
    from lexlip.models.lexlip import LexLIP

_LOGITS = 2**23
"""Logits of pictures that are held at a time."""


class ExportedLexLIP(SpeakerMixin):
    """A `lexlip.models.speaker.Speaker` with every capability of the network that it comes from.

    Texts go through the checkpoint's query table where there is one: it needs no network, and
    starts faster.

    Parameters
    ----------
    folder : Path
        Of the graphs.
    facts : mapping
        Its manifest.
    lexicon : Lexicon
    boosts : float32 [Va]
        What a text gives its own words.
    raw : tokenizers.Tokenizer
        Without truncation and padding.
    table : QueryTable, optional

    Examples
    --------
    >>> model = ExportedLexLIP.from_pretrained("runs/demo/stage2")       # doctest: +SKIP
    >>> model.words_of("two hearts", top_k=2)                     # doctest: +SKIP
    [('hearts', 1.05), ('two', 0.81)]
    """

    def __init__(
        self,
        folder: Path,
        facts: Mapping[str, Any],
        lexicon: Lexicon,
        boosts: Numbers,
        raw: Any,
        table: QueryTable | None = None,
    ) -> None:
        self.folder, self.facts, self.lexicon, self.table = folder, dict(facts), lexicon, table
        self.tokenizer = WordTokenizer(raw)
        self.pictures = Pixels.of_transformers(facts["pictures"], "vit")
        self.name_or_path = ""
        self._boosts, self._raw = boosts, raw
        self._excluded = np.array(facts["excluded"], np.int64)

    @property
    def fingerprint(self) -> str:
        """sha256 of the network's weights and vocabulary."""
        return self.facts["model"]

    @property
    def older_fingerprints(self) -> tuple[str, ...]:
        """Fingerprints that earlier versions gave the same network."""
        return tuple(self.facts["older"])

    @property
    def rounded(self) -> dict[str, str]:
        """Fingerprints of the network in lower precision, by its name."""
        return self.facts["rounded"]

    @property
    def precision(self) -> str:
        """The type of the network's weights, such as float32."""
        return self.facts["precision"]

    @cached_property
    def levels(self) -> Levels | None:
        """The bank that levels documents; None where the checkpoint has none."""
        return levels_of(self.name_or_path, self)

    @cached_property
    def network(self) -> LexLIP:
        """The network itself, for what has no graph.

        Raises
        ------
        LexLIPError
            Where torch or the network's weights are missing, or of another model.
        """
        require("torch", "transformers")
        from lexlip.models.lexlip import LexLIP

        network: LexLIP = LexLIP.from_pretrained(self.name_or_path)
        check_same(self.folder, self.facts, network, "delete that folder, it is made again")
        return network

    @cached_property
    def _text(self) -> Any:
        return self._graph("text")

    @cached_property
    def _image(self) -> Any:
        return self._graph("image")

    def _graph(self, name: str) -> Any:
        file = GRAPHS[name]
        check_digests(self.folder, self.facts, [file, f"{file}.data"])
        return open_session(self.folder / file)

    @property
    def image_side(self) -> int | None:
        """Pixels that the shorter side of a picture is decoded to at least; None for all."""
        return self.pictures.image_side

    def prepare_image(self, image: Any) -> Any:
        """Return one picture as the model sees it; see `lexlip.models.speaker.EncodesImages`."""
        return self.pictures.prepare(image)

    def windows(self, texts: Any) -> Windows:
        """Divide texts into parts that fit into the model."""
        room = self.facts["max_text_length"] - self._raw.num_special_tokens_to_add(False)
        raw = self._raw
        return in_windows(texts, lambda text: raw.encode(text, add_special_tokens=False), room)

    def encode_text(self, texts: Sequence[str], batch_size: int = 128) -> csr_array:
        """Texts to weights over the vocabulary, csr_array float32 [N, V]; see `LexLIP`."""
        if self.table is not None:
            return self.table.encode_text(texts)
        parts, counts = self.windows(texts)
        starts = range(0, len(parts), batch_size)
        rows = [self._weights(parts[at : at + batch_size]) for at in starts]
        return pool_words(self._stack(rows), counts)

    def _weights(self, texts: Sequence[str]) -> Numbers:
        """Texts that fit into the model to weights over the allow-list, [B, Va]."""
        read = [self.read_text(text).ids for text in texts]
        ids = np.full((len(read), max(map(len, read))), self.facts["pad"], np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(read):
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        (pooled,) = self._text.run(["pooled"], {"input_ids": ids, "attention_mask": mask})
        for row, tokens in enumerate(read):
            own = self._own(tokens)
            pooled[row, own] = np.maximum(pooled[row, own], 0) + self._boosts[own]
        return saturated(pooled)

    def _own(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """Columns of the words that a text contains itself."""
        kept = np.setdiff1d(np.array(ids, np.int64), self._excluded)
        columns = self.lexicon.compact[kept]
        return columns[columns >= 0]

    def encode_image(self, images: Sequence[Any], batch_size: int = 32) -> csr_array:
        """Pictures (paths, bytes, arrays or PIL) to weights, csr_array float32 [N, V]."""
        size = max(1, min(batch_size, _LOGITS // (self.facts["patches"] * len(self.lexicon))))
        with closing(in_batches(self.prepare_image, as_pictures(images), size)) as prepared:
            rows = [self.weights_of_pixels(self.pixel_values(part)) for part in prepared]
        return self._stack(rows)

    def _stack(self, rows: Sequence[Numbers]) -> csr_array:
        if not rows:
            return csr_array((0, len(self.lexicon.tokens)), dtype=np.float32)
        return csr_array(vstack([self.lexicon.expand(part) for part in rows], format="csr"))

    @property
    def patch_grid(self) -> int:
        """Rows and columns that patches are averaged to; 0 for the trunk's own."""
        return self.facts["patch_grid"]

    @property
    def summary_token(self) -> int | None:
        """Id of [CLS]; None for a tokenizer without one."""
        return self.facts["summary"]

    def seen(self, image: Any) -> NDArray[np.uint8]:
        """One picture as the model sees it, uint8 [3, H, W]."""
        return self.pictures.resize(image)

    def pixel_values(self, images: Sequence[Any]) -> Numbers:
        """Pictures as the network takes them, float32 [B, 3, H, W]."""
        rows = [self.pictures.prepare(image).pixels for image in images]
        return self.pictures.normalise(np.stack(rows))

    def weights_of_pixels(self, pixel_values: Numbers) -> Numbers:
        """Pixel values to weights over the allow-list, float32 [B, Va]."""
        (pooled,) = self._image.run(["pooled"], {"pixel_values": pixel_values})
        return saturated(pooled)

    def pool_picture(self, image: Any) -> PooledPicture:
        """Return the logits of one picture."""
        names = ["pooled", "winner", "logits"]
        pixels = self.pixel_values([image])
        return PooledPicture(*(it[0] for it in self._image.run(names, {"pixel_values": pixels})))

    def read_text(self, text: str) -> ReadText:
        """Return the tokens of a text that fits into the model (`windows`)."""
        return ReadText.of(text, self._raw.encode(text))

    def pool_words(self, ids: Sequence[int]) -> PooledText:
        """Return the logits of a text's tokens."""
        pooled, winner = (it[0] for it in self._read(["pooled", "winner"], ids))
        boosts = np.zeros_like(pooled)
        own = self._own(ids)
        boosts[own] = self._boosts[own]
        return PooledText(pooled, winner, boosts)

    def attention_of(self, ids: Sequence[int]) -> Numbers:
        """Attention of the last layer, the mean of its heads, float32 [L, L]."""
        return self._read(["attention"], ids)[0][0]

    def _read(self, names: list[str], ids: Sequence[int]) -> list[Any]:
        row = np.array([list(ids)], np.int64)
        return self._text.run(names, {"input_ids": row, "attention_mask": np.ones_like(row)})

    def locate(self, picture: Any, terms: Iterable[int], crops: int = 0) -> Provenance:
        """Find the patch of a picture that won each term; see `LexLIP.locate`."""
        from lexlip.models.localisation.patches import provenance

        return provenance(self, picture, terms, crops)

    def locate_pixels(
        self, picture: Any, terms: Iterable[int], batch_size: int = 32
    ) -> dict[int, NDArray[np.float32]]:
        """Find the pixels that each term needs; see `LexLIP.locate_pixels`."""
        from lexlip.models.localisation.occlusion import occlusion

        return occlusion(self, picture, terms, batch_size)

    def trace_text(self, text: str, terms: Iterable[int] | None = None) -> TextProvenance:
        """Find the word of a text that raised each term; see `LexLIP.trace_text`."""
        from lexlip.models.localisation.texts import text_provenance

        if self.table is not None:
            return self.table.trace_text(text, terms)
        return text_provenance(self, text, terms)

    def text_attention(self, text: str) -> list[tuple[str, float]]:
        """Share of each word in the last layer's attention; empty where a table reads texts."""
        from lexlip.models.localisation.texts import text_attention

        return [] if self.table is not None else text_attention(self, text)

    @property
    def aligns(self) -> bool:
        """Whether there is a token for each patch, so that `align` works."""
        return self.facts["aligns"]

    def align(self, picture: Any, text: str) -> WordPatches:
        """Match each patch of a picture with a word of a text, by the network."""
        return self.network.align(picture, text)

    @property
    def token_size(self) -> int:
        """Width of a token for late interaction; 0 without a token head."""
        return self.facts["token_size"]

    @property
    def gaussian_size(self) -> int:
        """Dimensions of a Gaussian; 0 without a Gaussian head."""
        return self.facts["gaussian_size"]

    @property
    def naaf_threshold(self) -> float | None:
        """Cosine below which NAAF takes a word for absent; None without NAAF's training."""
        return self.facts["naaf_threshold"]

    def match_curve(self) -> tuple[float, float]:
        """Scale and shift of PCME's sigmoid."""
        return self.network.match_curve()

    def represent_text(
        self, texts: Sequence[str], batch_size: int = 128
    ) -> tuple[csr_array, Views]:
        """Texts to weights and views, by the network."""
        return self.network.represent_text(texts, batch_size)

    def represent_image(
        self, images: Sequence[Any], batch_size: int = 32
    ) -> tuple[csr_array, Views]:
        """Pictures to weights and views, by the network."""
        return self.network.represent_image(images, batch_size)

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike[str], folder: Path | None = None, table: bool = True
    ) -> ExportedLexLIP:
        """Open the export of a checkpoint.

        Parameters
        ----------
        name : str or path
            The checkpoint.
        folder : Path, optional
            Of the export; by default where `lexlip.models.export_files.export_folder` finds it.
        table : bool
            Read texts by the checkpoint's query table, where there is one.

        Raises
        ------
        LexLIPError
            When there is none, or it is corrupted.
        """
        found = folder or export_folder(name)
        if found is None:
            raise LexLIPError(f"no export of {name}: lexlip index writes one")
        from tokenizers import Tokenizer

        try:
            facts = read_json(found / MANIFEST)
            if facts["format"] != FORMAT:
                raise KeyError(facts["format"])
            check_digests(found, facts, [LEXICON, TOKENIZER])
            arrays = load_file(found / LEXICON)
            raw = Tokenizer.from_file(str(found / TOKENIZER))
            lexicon = Lexicon(tuple(facts["tokens"]), arrays["lexicon_ids"])
            if lexicon.hash != facts["vocabulary"]:
                raise KeyError("vocabulary")
            queries = QueryTable.from_pretrained(name) if table and is_table(name) else None
            if queries is not None and queries.fingerprint != facts["model"]:
                queries = None
            model = cls(found, facts, lexicon, arrays["boosts"], raw, queries)
        except LexLIPError:
            raise
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise LexLIPError(
                f"the export at {found} is corrupted: delete that folder, it is made again"
            ) from error
        model.name_or_path = os.fspath(name)
        return model
