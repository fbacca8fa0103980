"""LexLIP: texts and pictures to weighted vocabulary words (Luo et al., ICCV 2023)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.func import functional_call
from transformers import AutoModel
from transformers.models.bert.modeling_bert import BertPredictionHeadTransform

from lexlip.data.given import as_pictures
from lexlip.models.config import LexLIPConfig
from lexlip.models.dense_branch import Dense, DenseBranch, has_heads, to_views
from lexlip.models.levels import Levels, levels_of
from lexlip.models.localisation.alignment import align
from lexlip.models.localisation.network import PooledNetwork
from lexlip.models.localisation.occlusion import occlusion
from lexlip.models.localisation.patches import provenance
from lexlip.models.localisation.results import Provenance, TextProvenance, WordPatches
from lexlip.models.localisation.texts import text_attention, text_provenance
from lexlip.models.pooling import log_saturate, max_pool_logits
from lexlip.models.pretrained import TwoTowers, WordModel
from lexlip.models.towers import batches
from lexlip.models.trunks import head_config
from lexlip.models.windows import pool_views, pool_words
from lexlip.storage.views import Views


class LexiconHead(nn.Module):
    """BERT's masked-language-model head, read as a lexicon: transform, then words and bias.

    As in the official code the word vectors are not tied to the input embeddings, and each
    modality has its own: contrast needs the freedom.
    """

    def __init__(self, config: LexLIPConfig) -> None:
        super().__init__()
        self.transform = BertPredictionHeadTransform(head_config(config.text_config))
        width = config.text_config.hidden_size  # type: ignore[union-attr]
        self.words = nn.Parameter(torch.empty(config.lexicon_size, width).normal_(0, 0.02))
        self.bias = nn.Parameter(torch.zeros(config.lexicon_size))

    def transformed(self, hidden: Tensor) -> Tensor:
        """Hidden states after the transform, always in float32.

        A transform that starts as the identity works around 12, where its GELU is a straight line
        and bf16 has 5 bits left: the noise was 4 % of the signal, the maximum over positions made
        weight of it, and a model trained so had 43 words a picture in bf16 and 38 in float32.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            if self.words.dtype == torch.float32:
                return self.transform(hidden.float())
            weights = {name: part.float() for name, part in self.transform.named_parameters()}
            return functional_call(self.transform, weights, hidden.float())

    def logits(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits [N, Va] of hidden states [N, D] (for masked positions: few rows)."""
        return self.transformed(hidden) @ self.words.T + self.bias

    def pool(self, hidden: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Max-pooled logits [B, Va] and winning positions; the bias commutes with the maximum."""
        pooled, winner = max_pool_logits(self.transformed(hidden), self.words, mask)
        return pooled + self.bias, winner


class LexLIP(PooledNetwork, TwoTowers, WordModel):
    """Two encoders whose outputs are words.

    A `lexlip.models.speaker.Speaker` with every capability: it encodes pictures, says where a word
    is (a weight is a maximum over positions), and has views for rerankers where it has heads.

    Examples
    --------
    >>> model = LexLIP.from_pretrained("runs/demo/stage2")        # doctest: +SKIP
    >>> queries = model.encode_query(["two hearts"])             # doctest: +SKIP
    >>> model.decode(queries, top_k=2)                            # doctest: +SKIP
    [[('hearts', 1.05), ('two', 0.81)]]
    """

    def __init__(self, config: LexLIPConfig) -> None:
        super().__init__(config)
        self.text_head = LexiconHead(config)
        self.image_head = LexiconHead(config)
        if config.own_word_boost:
            # Added after the relu, so a text never loses its own words. Without it, words that
            # pictures cannot say yet die on the text side in the first steps, and a dead relu has
            # no gradient to come back: on scenes a text kept 4.5 terms, and 14 with it.
            self.own_word_boost = nn.Parameter(torch.full((config.lexicon_size,), 2.0))
        self.register_buffer("lexicon_ids", torch.zeros(config.lexicon_size, dtype=torch.int64))
        self.heads = DenseBranch(config) if has_heads(config) else None
        self.post_init()

    def start_image_head(self) -> None:
        """Let the image head begin as a copy of the text head, as the official code does."""
        self.image_head = copy.deepcopy(self.text_head)

    def add_heads(
        self, token_size: int, gaussian_size: int, token_count: int = 0, layers: int = 0
    ) -> None:
        """Give a model that has none its heads, untrained; see `LexLIPConfig` for the sizes.

        Words stay as they are; the fingerprint does not.
        """
        config = self.config
        config.token_size, config.token_count = token_size, token_count
        config.gaussian_size, config.head_layers = gaussian_size, layers
        self.heads = DenseBranch(config).to(self.device) if has_heads(config) else None
        if self.heads is not None:
            self.heads.start(self.text.trunk, self.vision.neck)

    @property
    def levels(self) -> Levels | None:
        """The bank that levels documents; None where the checkpoint has none."""
        if "_levels" not in self.__dict__:
            self.__dict__["_levels"] = levels_of(self.name_or_path or "", self)
        return self.__dict__["_levels"]

    @property
    def token_size(self) -> int:
        """Width of a token for late interaction; 0 without a token head."""
        return self.config.token_size

    @property
    def gaussian_size(self) -> int:
        """Dimensions of a Gaussian; 0 without a Gaussian head."""
        return self.config.gaussian_size

    @property
    def naaf_threshold(self) -> float | None:
        """Cosine below which NAAF takes a word for absent; None where training measured none."""
        return self.config.naaf_threshold

    def match_curve(self) -> tuple[float, float]:
        """Scale a and shift b of PCME's ``sigmoid(b - a * distance)``; the model needs heads."""
        assert self.heads is not None
        return self.heads.sample_scale.item(), self.heads.sample_shift.item()

    @property
    def aligns(self) -> bool:
        """Whether there is a token for each patch, so that `align` works."""
        return bool(self.config.token_size and not self.config.token_count)

    @property
    def words(self) -> Tensor:
        """Input embeddings of the lexicon, [Va, D]: what the bottleneck speaks with."""
        return self.text.word_embeddings[self.lexicon_ids]

    def own_words(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        """1 where a text itself contains a lexicon word, float [B, Va]."""
        present = torch.zeros(
            len(input_ids), len(self.text.word_embeddings), device=input_ids.device
        )
        present.scatter_(1, torch.where(positions, input_ids, 0), 1.0)
        return present[:, self.lexicon_ids]

    def pool_text(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raw pooled logits of texts (before log-saturation).

        Parameters
        ----------
        input_ids, attention_mask : int64 Tensor [B, L]

        Returns
        -------
        pooled : float Tensor [B, Va]
        winner : int16 Tensor [B, Va]
            Token position that won each word.
        hidden : Tensor [B, L, D]
            Hidden states, for the masked-language-model loss.
        """
        hidden = self.text(input_ids, attention_mask)
        return *self.pool_hidden(hidden, input_ids, attention_mask), hidden

    def pool_hidden(
        self, hidden: Tensor, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Pooled logits and winners of hidden states; see `pool_text`."""
        positions = self.text.positions(input_ids, attention_mask)
        pooled, winner = self.text_head.pool(hidden, positions)
        if self.config.own_word_boost:
            own = self.own_words(input_ids, positions) > 0
            kept = torch.relu(pooled) + torch.relu(self.own_word_boost)
            pooled = torch.where(own, kept, pooled)
        return pooled, winner

    def pool_image(self, features: Tensor, kept: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Raw pooled logits [B, Va] and winning patches of trunk features [B, 1 + P, Dv].

        `kept` as in `lexlip.models.towers.VisionTower`; winners are numbered among the kept
        patches.
        """
        return self.image_head.pool(self.vision(features, kept))

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], batch_size: int = 128) -> csr_array:
        """Texts to weights over the vocabulary.

        Parameters
        ----------
        texts : sequence of str
        batch_size : int

        Returns
        -------
        csr_array float32 [N, V]
            log-saturated weights, not normalised; an empty or unknown text is an empty row. A long
            text has the largest weights of its windows.
        """
        parts, counts = self.windows(texts)
        rows = [
            log_saturate(self.pool_text(**tokens)[0])
            for tokens in self._text_batches(parts, batch_size)
        ]
        return pool_words(self._stack(rows), counts)

    @torch.no_grad()
    def encode_image(self, images: Sequence[Any], batch_size: int = 32) -> csr_array:
        """Pictures (paths, bytes, arrays or PIL) to weights, csr_array float32 [N, V]."""
        images = as_pictures(images)
        rows = [
            log_saturate(self.pool_image(f)[0]) for f in self._image_features(images, batch_size)
        ]
        return self._stack(rows)

    @torch.no_grad()
    def encode_features(self, features: Any, batch_size: int = 256) -> csr_array:
        """Cached trunk features [N, 1 + P, Dv] (array or memory map) to weights [N, V]."""
        rows = [
            log_saturate(self.pool_image(f)[0]) for f in self._feature_batches(features, batch_size)
        ]
        return self._stack(rows)

    @torch.no_grad()
    def represent_text(
        self, texts: Sequence[str], batch_size: int = 128
    ) -> tuple[csr_array, Views]:
        """Texts to words and to what rerankers look at, in one pass.

        Returns
        -------
        csr_array float32 [N, V]
            As of `encode_text`.
        Views
            Of N texts; empty ones of a model without heads. A long text has the tokens of all its
            windows.
        """
        parts, counts = self.windows(texts)
        rows, dense = [], []
        for tokens in self._text_batches(parts, batch_size):
            depth = self.heads.depth if self.heads is not None else 0
            hidden, lower = self.text.states(**tokens, below=(0, depth))
            rows.append(log_saturate(self.pool_hidden(hidden, **tokens)[0]))
            if self.heads is not None:
                positions = self.text.positions(**tokens)
                dense.append(self.heads.of_text(lower, tokens["attention_mask"], positions))
        views = to_views(dense, len(parts), self.config)
        return pool_words(self._stack(rows), counts), pool_views(views, counts)

    @torch.no_grad()
    def represent_image(
        self, images: Sequence[Any], batch_size: int = 32
    ) -> tuple[csr_array, Views]:
        """Pictures to words and to what rerankers look at, in one pass; see `represent_text`."""
        images = as_pictures(images)
        return self._represent(self._image_features(images, batch_size), len(images))

    @torch.no_grad()
    def represent_features(self, features: Any, batch_size: int = 256) -> tuple[csr_array, Views]:
        """Cached trunk features [N, 1 + P, Dv] to words and views; see `represent_text`."""
        return self._represent(self._feature_batches(features, batch_size), len(features))

    def _represent(self, batches: Iterable[Tensor], count: int) -> tuple[csr_array, Views]:
        rows, dense = [], list[Dense]()
        for features in batches:
            rows.append(log_saturate(self.pool_image(features)[0]))
            if self.heads is not None:
                dense.append(self.heads.of_image(self.vision, features))
        return self._stack(rows), to_views(dense, count, self.config)

    def locate(self, picture: Any, terms: Iterable[int], crops: int = 0) -> Provenance:
        """Find the patch of a picture that won each term.

        Parameters
        ----------
        picture : path, bytes, PIL image or array
        terms : iterable of int
            Term ids, as `Index.query` gives them.
        crops : int
            Corners that were encoded with the whole; see `lexlip.data.crops`.

        Raises
        ------
        LexLIPError
            For a picture that cannot be read, and a number that is not a term id.

        Examples
        --------
        >>> found = model.locate("cat.jpg", index.query("a cat"))        # doctest: +SKIP
        >>> found.grid, found.patches                                    # doctest: +SKIP
        ((8, 8), {4937: 27})
        """
        return provenance(self, picture, terms, crops)

    def locate_pixels(
        self, picture: Any, terms: Iterable[int], batch_size: int = 32
    ) -> dict[int, NDArray[np.float32]]:
        """Term id to the weight that is lost when a patch is hidden, float32 [rows, columns].

        One pass of the model per patch. Parameters and errors as of `locate`.
        """
        return occlusion(self, picture, terms, batch_size)

    def trace_text(self, text: str, terms: Iterable[int] | None = None) -> TextProvenance:
        """Find the word of a text that raised each term.

        Parameters
        ----------
        text : str
            As `encode_text` takes it, without grammar.
        terms : iterable of int, optional
            Term ids; by default those that the text has.

        Raises
        ------
        LexLIPError
            For a number that is not a term id.

        Examples
        --------
        >>> model.trace_text("two hearts").by_word()                    # doctest: +SKIP
        [('two', {89: 0.81}), ('hearts', {39: 1.05, 60: 0.70})]
        """
        return text_provenance(self, text, terms)

    def text_attention(self, text: str) -> list[tuple[str, float]]:
        """Share of each word in what the last layer attends to; it explains no score.

        Examples
        --------
        >>> model.text_attention("two hearts")                          # doctest: +SKIP
        [('two', 0.77), ('hearts', 0.23)]
        """
        return text_attention(self, text)

    def align(self, picture: Any, text: str) -> WordPatches:
        """Match each patch of a picture with the word of a text that it resembles most.

        Raises
        ------
        LexLIPError
            When the model has no token for each patch, or the picture cannot be read.
        """
        return align(self, picture, text)

    def _feature_batches(self, features: Any, size: int) -> Iterable[Tensor]:
        for part in batches(features, size):
            yield torch.as_tensor(np.asarray(part, dtype=np.float32), device=self.device)


AutoModel.register(LexLIPConfig, LexLIP, exist_ok=True)
