"""LexLIP: texts and pictures to weighted vocabulary words (Luo et al., ICCV 2023)."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from scipy.sparse import csr_array, vstack
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.models.bert.modeling_bert import BertPredictionHeadTransform

from lexlip.errors import LexLIPError
from lexlip.impacts import top_terms, unit_normalise
from lexlip.lexicon import Lexicon, vocabulary
from lexlip.models.card import CARD, model_card, push, read_record
from lexlip.models.config import LexLIPConfig
from lexlip.models.dense_branch import Dense, DenseBranch, has_heads, to_views
from lexlip.models.pooling import log_saturate, max_pool_logits
from lexlip.models.processing import Processor, fingerprint
from lexlip.models.towers import TextTower, VisionTower, batches
from lexlip.models.trunks import head_config
from lexlip.views import Views


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
            return self.transform(hidden.float())

    def logits(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits [N, Va] of hidden states [N, D] (for masked positions: few rows)."""
        return self.transformed(hidden) @ self.words.T + self.bias

    def pool(self, hidden: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Max-pooled logits [B, Va] and winning positions; the bias commutes with the maximum."""
        pooled, winner = max_pool_logits(self.transformed(hidden), self.words, mask)
        return pooled + self.bias, winner


class LexLIPPreTrainedModel(PreTrainedModel):
    """What LexLIP and its dense control share: two towers, a processor, a fingerprint."""

    # Encoding runs without gradients but not in torch's inference mode: some trunks (BEiT, DINOv3)
    # keep tables from one pass to the next, and a table of that mode could not be trained with.

    config_class = LexLIPConfig
    base_model_prefix = "lexlip"
    main_input_name = "pixel_values"
    processor: Processor | None = None
    record: Mapping[str, Any] = {}  # what training noted, for the model card
    config: LexLIPConfig

    def __init__(self, config: LexLIPConfig) -> None:
        super().__init__(config)
        self.vision = VisionTower(config)
        self.text = TextTower(config)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Load weights, tokenizer and picture preprocessing from a folder or the hub.

        Raises
        ------
        LexLIPError
            When there is no such checkpoint, it is damaged, or it is of another model.
        """
        kwargs["output_loading_info"] = True
        try:
            loaded: Any = super().from_pretrained(name, *args, **kwargs)
            model, report = loaded
            model.processor = Processor.from_pretrained(name)
            model.record = read_record(name)
        except (OSError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise LexLIPError(
                f"no checkpoint at {name}: give a folder that training wrote ({reason})"
            ) from error
        if report["missing_keys"]:  # transformers would leave them as they come from memory
            raise LexLIPError(
                f"{name} is no {cls.__name__} checkpoint ({min(report['missing_keys'])} and others "
                "are missing): give one of that kind"
            )
        return model.eval()

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:  # type: ignore[override]
        """Save weights, tokenizer, preprocessing and a model card: the folder stands alone."""
        if kwargs.pop("push_to_hub", False):
            raise ValueError("save first, then call push_to_hub(repo_id)")
        super().save_pretrained(save_directory, **kwargs)
        if self.processor is not None:
            self.processor.save_pretrained(save_directory)
        model_card(self).save(Path(save_directory) / CARD)

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Any:  # type: ignore[override]
        """Upload weights, tokenizer, preprocessing and card to the hub, and nothing else.

        Parameters
        ----------
        repo_id : str
            ``owner/name``; made if it is not there.
        **kwargs
            As in transformers: private, token, revision, create_pr, commit_message,
            commit_description, max_shard_size.

        Returns
        -------
        huggingface_hub.CommitInfo
        """
        return push(self, repo_id, **kwargs)

    def resize_images(self, size: int) -> None:
        """Read pictures of `size` x `size` pixels from now on.

        Position embeddings are interpolated in two dimensions; see
        `lexlip.models.trunks.interpolate_grid`. The fingerprint changes with them.
        """
        self.vision.resize(size)
        self.config.vision_config = self.vision.trunk.config
        if self.processor is not None:
            self.processor.image_processor.size = {"height": size, "width": size}

    @property
    def fingerprint(self) -> str:
        """sha256 over weights and vocabulary: an index remembers it and refuses another model."""
        return fingerprint(self.state_dict(), self._processor.tokenizer)

    @property
    def _processor(self) -> Processor:
        if self.processor is None:
            raise ValueError("this model has no processor: set model.processor first")
        return self.processor

    def _text_batches(self, texts: Sequence[str], size: int) -> Iterable[dict[str, Tensor]]:
        for part in batches(texts, size):
            tokens = self._processor.tokenize(part, self.config.max_text_length)
            yield {k: v.to(self.device) for k, v in tokens.items()}

    def _image_features(self, images: Sequence[Any], size: int) -> Iterable[Tensor]:
        for part in batches(images, size):
            pixels = self._processor.pixels(part).to(self.device, self.dtype)
            yield self.vision.features(pixels)


class LexLIP(LexLIPPreTrainedModel):
    """Two encoders whose outputs are words.

    Examples
    --------
    >>> model = LexLIP.from_pretrained("runs/demo/stage2")        # doctest: +SKIP
    >>> queries = model.encode_query(["a red circle"])            # doctest: +SKIP
    >>> model.decode(queries, top_k=2)                            # doctest: +SKIP
    [[('red', 2.1), ('circle', 2.0)]]
    """

    lexicon_ids: Tensor
    localises = True  # a weight is a maximum over positions, so one of them made it

    def __init__(self, config: LexLIPConfig) -> None:
        super().__init__(config)
        self.text_head = LexiconHead(config)
        self.image_head = LexiconHead(config)
        if config.own_word_boost:
            # Added after the relu, so a text never loses a word of its own. Without it, words that
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
    def lexicon(self) -> Lexicon:
        """The vocabulary and its allow-list."""
        if "_lexicon" not in self.__dict__:
            tokens = vocabulary(self._processor.tokenizer)
            self.__dict__["_lexicon"] = Lexicon(tokens, self.lexicon_ids.cpu().numpy())
        return self.__dict__["_lexicon"]

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
            log-saturated weights, not normalised; an empty or unknown text is an empty row.
        """
        rows = [
            log_saturate(self.pool_text(**tokens)[0])
            for tokens in self._text_batches(texts, batch_size)
        ]
        return self._stack(rows)

    @torch.no_grad()
    def encode_image(self, images: Sequence[Any], batch_size: int = 32) -> csr_array:
        """Pictures (paths, bytes, arrays or PIL) to weights, csr_array float32 [N, V]."""
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
            Of N texts; empty ones of a model without heads.
        """
        rows, dense = [], []
        for tokens in self._text_batches(texts, batch_size):
            depth = self.heads.depth if self.heads is not None else 0
            hidden, lower = self.text.states(**tokens, below=(0, depth))
            rows.append(log_saturate(self.pool_hidden(hidden, **tokens)[0]))
            if self.heads is not None:
                positions = self.text.positions(**tokens)
                dense.append(self.heads.of_text(lower, tokens["attention_mask"], positions))
        return self._stack(rows), to_views(dense, len(texts), self.config)

    @torch.no_grad()
    def represent_image(
        self, images: Sequence[Any], batch_size: int = 32
    ) -> tuple[csr_array, Views]:
        """Pictures to words and to what rerankers look at, in one pass; see `represent_text`."""
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

    def encode_query(self, texts: Sequence[str], batch_size: int = 128) -> csr_array:
        """Queries to weights [N, V]; sentence-transformers' name for `encode_text`."""
        return self.encode_text(texts, batch_size)

    def encode_document(self, items: Sequence[Any], batch_size: int = 32) -> csr_array:
        """Documents to weights [N, V]: a `str` is a text; a `Path`, PIL image, bytes or array is
        a picture.
        """
        texts = [isinstance(item, str) for item in items]
        if all(texts):
            return self.encode_text(items, batch_size)
        if any(texts):
            raise ValueError("encode_document takes texts or pictures, not both in one call")
        return self.encode_image(items, batch_size)

    def decode(self, weights: csr_array, top_k: int | None = None) -> list[list[tuple[str, float]]]:
        """Weights [N, V] to words, heaviest first."""
        return self.lexicon.decode(weights, top_k)

    @staticmethod
    def similarity(queries: csr_array, documents: csr_array) -> np.ndarray:
        """Cosine of all pairs, float32 [Q, D]: the similarity that training optimises."""
        return (unit_normalise(queries) @ unit_normalise(documents).T).toarray()

    def intersection(self, query: csr_array, document: csr_array, top_k: int = 10) -> list[Any]:
        """Words that two vectors share, with the products that make up their similarity."""
        return self.decode(
            csr_array(unit_normalise(query).multiply(unit_normalise(document))), top_k
        )

    def words_of(self, item: str | Path | Any, top_k: int = 20) -> list[tuple[str, float]]:
        """The heaviest words of one text or picture."""
        return self.decode(top_terms(self.encode_document([item]), top_k))[0]

    def _feature_batches(self, features: Any, size: int) -> Iterable[Tensor]:
        for part in batches(features, size):
            yield torch.as_tensor(np.asarray(part, dtype=np.float32), device=self.device)

    def _stack(self, rows: Sequence[Tensor]) -> csr_array:
        if not rows:
            return csr_array((0, len(self.lexicon.tokens)), dtype=np.float32)
        parts = [self.lexicon.expand(r.float().cpu().numpy()) for r in rows]
        return csr_array(vstack(parts, format="csr"))


AutoModel.register(LexLIPConfig, LexLIP, exist_ok=True)
