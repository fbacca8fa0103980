"""A CLIP that speaks in words: any transformers ``CLIPModel``, with a lexicon on top of it.

For people who have a CLIP and cannot train: `lexicalise` needs no training at all, and what comes
out is indexed and searched like any LexLIP. ``python -m pretrain.distil`` trains the lexicon head,
and nothing else, in minutes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn.functional import normalize
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertTokenizer,
    CLIPConfig,
    CLIPModel,
    PreTrainedConfig,
)

from lexlip.errors import LexLIPError
from lexlip.lexicon import STOP_WORDS, Lexicon
from lexlip.models.lexical_head import Kind, LexicalHead
from lexlip.models.pretrained import WordModel
from lexlip.models.processing import Processor
from lexlip.models.towers import batches
from lexlip.models.word_tokenizer import word_tokenizer

CLIP_TOKENIZER = "clip"
"""Folder of CLIP's own tokenizer in a checkpoint; the words' tokenizer is next to the weights."""

PROMPT = "a photo of a {}"


class LexicalConfig(PreTrainedConfig):
    """The shape of a `LexicalCLIP`.

    Parameters
    ----------
    clip_config : dict
        Of the CLIP.
    lexicon_size : int
        Number of words.
    coding_steps : int
        Iterations of sparse coding; 0 for a trained head.
    penalty : float
        Of sparse coding, see `lexlip.models.lexical_head.LexicalHead`.
    max_text_length : int
        Longest text in tokens, special tokens included.
    """

    model_type = "lexlip-clip"

    clip_config: dict | None = None
    lexicon_size: int = 0
    coding_steps: int = 0
    penalty: float = 0.02
    max_text_length: int = 77


class LexicalCLIP(WordModel):
    """A frozen CLIP whose embeddings become words.

    A `lexlip.models.speaker.Speaker` that encodes texts and pictures. It weighs each as a whole, so
    its words have no place, and it has no heads for rerankers. `embed_text` and `embed_image` are
    CLIP's own vectors.

    Examples
    --------
    >>> model = lexicalise("openai/clip-vit-base-patch32", pictures)    # doctest: +SKIP
    >>> model.words_of(Path("beach.jpg"), top_k=3)                      # doctest: +SKIP
    [('beach', 0.21), ('surf', 0.17), ('sand', 0.11)]
    """

    config_class = LexicalConfig
    base_model_prefix = "lexical"
    config: LexicalConfig

    def __init__(self, config: LexicalConfig) -> None:
        super().__init__(config)
        self.clip = CLIPModel(CLIPConfig.from_dict(config.clip_config or {}))
        self.width = int(self.clip.config.projection_dim or 0)
        self.head = LexicalHead(
            config.lexicon_size, self.width, config.coding_steps, config.penalty
        )
        self.register_buffer("lexicon_ids", torch.zeros(config.lexicon_size, dtype=torch.int64))
        self.clip_tokenizer: Any = None
        self.post_init()

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Load weights, both tokenizers and picture preprocessing; see `LexLIP.from_pretrained`."""
        model = super().from_pretrained(name, *args, **kwargs)
        try:
            folder = {"subfolder": CLIP_TOKENIZER}
            if Path(name).is_dir():
                name, folder = Path(name) / CLIP_TOKENIZER, {}
            model.clip_tokenizer = AutoTokenizer.from_pretrained(name, **folder)
        except (OSError, ValueError) as error:
            raise LexLIPError(
                f"{name}: CLIP's own tokenizer is missing: write the checkpoint again with lexlip "
                "lexicalise"
            ) from error
        return model

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:  # type: ignore[override]
        """Save weights, both tokenizers and preprocessing: the folder is complete."""
        super().save_pretrained(save_directory, **kwargs)
        self.clip_tokenizer.save_pretrained(Path(save_directory) / CLIP_TOKENIZER)

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str], batch_size: int = 128) -> np.ndarray:
        """Texts to CLIP's unit vectors, float32 [N, d]."""
        return _rows(self._text_vectors(texts, batch_size), self.width)

    @torch.no_grad()
    def embed_image(self, images: Sequence[Any], batch_size: int = 32) -> np.ndarray:
        """Pictures to CLIP's unit vectors, float32 [N, d]."""
        return _rows(self._image_vectors(images, batch_size), self.width)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], batch_size: int = 128) -> csr_array:
        """Texts to weights over the vocabulary, float32 [N, V]; an empty text is an empty row."""
        words = self._speak(self._text_vectors(texts, batch_size), "text")
        said = np.array([bool(text.strip()) for text in texts], dtype=np.float32)
        words.data *= np.repeat(said, np.diff(words.indptr))
        words.eliminate_zeros()
        return words

    @torch.no_grad()
    def encode_image(self, images: Sequence[Any], batch_size: int = 32) -> csr_array:
        """Pictures (paths, bytes, arrays or PIL) to weights, csr_array float32 [N, V]."""
        return self._speak(self._image_vectors(images, batch_size), "image")

    def _text_vectors(self, texts: Sequence[str], size: int) -> Iterable[Tensor]:
        for part in batches(texts, size):
            tokens = self.clip_tokenizer(
                list(part),
                padding=True,
                truncation=True,
                max_length=self.config.max_text_length,
                return_tensors="pt",
            ).to(self.device)
            ids, mask = tokens["input_ids"], tokens["attention_mask"]
            yield _unit(self.clip.get_text_features(input_ids=ids, attention_mask=mask))

    def _image_vectors(self, images: Sequence[Any], size: int) -> Iterable[Tensor]:
        for pixels in self._pixel_batches(images, size):
            yield _unit(self.clip.get_image_features(pixel_values=pixels))

    def _speak(self, vectors: Iterable[Tensor], kind: Kind) -> csr_array:
        return self._stack([self.head(part, kind) for part in vectors])


def clip_words(tokenizer: Any, size: int) -> list[str]:
    """Return the `size` most frequent whole words of a CLIP tokenizer, most frequent first.

    Its merges were learned from captions, frequent pairs first, so a smaller id is a more frequent
    word. Function words and what has two letters or fewer are left out.

    Raises
    ------
    LexLIPError
        When the tokenizer does not mark ends of words as CLIP's does.
    """
    vocabulary = tokenizer.get_vocab()
    whole = [t for t in sorted(vocabulary, key=vocabulary.__getitem__) if t.endswith("</w>")]
    bare = [t.removesuffix("</w>") for t in whole]
    words = [w for w in bare if len(w) > 2 and w.isalpha() and w.isascii() and w not in STOP_WORDS]
    if not words:
        raise LexLIPError("this tokenizer has no whole words: give a file of words with --words")
    return words[:size]


@torch.no_grad()
def lexicalise(
    name: str | os.PathLike[str],
    pictures: Sequence[Any],
    words: Sequence[str] | None = None,
    captions: Sequence[str] = (),
    *,
    size: int = 8000,
    steps: int = 100,
    penalty: float = 0.02,
) -> LexicalCLIP:
    """Give a CLIP a lexicon, without training.

    The vectors of the words are the text embeddings of "a photo of a ..."; a picture or a text is
    the sparse, not negative sum of words that comes nearest to it (`lexlip.models.lexical_head`).

    Parameters
    ----------
    name : str or path
        A transformers ``CLIPModel``: a folder, or a name on the hub.
    pictures : sequence
        Some pictures (paths, bytes, arrays or PIL) like those that will be searched: their mean is
        taken off every picture. 100 do, more are better.
    words : sequence of str, optional
        The lexicon; by default the `size` most frequent words of CLIP's tokenizer.
    captions : sequence of str
        Some texts like those that will ask, whose mean is taken off every text; the words' own mean
        is taken where there are none.
    size : int
    steps : int
        Iterations of sparse coding.
    penalty : float
        See `lexlip.models.lexical_head.LexicalHead`.

    Raises
    ------
    LexLIPError
        When there is no such CLIP, no picture, or no word.
    """
    if not len(pictures):
        raise LexLIPError("no picture to measure the mean of: give some of those to be searched")
    try:
        clip = CLIPModel.from_pretrained(name)
        tokenizer, processor = AutoTokenizer.from_pretrained(name), Processor.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise LexLIPError(f"no CLIP at {name}: give a folder or a hub name ({reason})") from error
    chosen = clip_words(tokenizer, size) if words is None else list(words)
    lexicon, processor.tokenizer = _lexicon(chosen)
    config = LexicalConfig(
        clip_config=clip.config.to_dict(),
        lexicon_size=len(lexicon),
        coding_steps=steps,
        penalty=penalty,
        max_text_length=clip.config.to_dict()["text_config"]["max_position_embeddings"],
    )
    model = LexicalCLIP(config)
    model.clip.load_state_dict(clip.state_dict())
    model.processor, model.clip_tokenizer = processor, tokenizer
    model.lexicon_ids.copy_(torch.from_numpy(lexicon.ids))
    model.eval()
    prompts = [PROMPT.format(lexicon.tokens[number]) for number in lexicon.ids]
    vectors = torch.from_numpy(model.embed_text(prompts))
    model.head.words.data = normalize(vectors - vectors.mean(0), dim=1).clone()
    asked = torch.from_numpy(model.embed_text(captions)) if len(captions) else vectors
    model.head.text_mean.copy_(asked.mean(0))
    model.head.image_mean.copy_(torch.from_numpy(model.embed_image(pictures)).mean(0))
    return model


def _lexicon(words: Sequence[str]) -> tuple[Lexicon, BertTokenizer]:
    """A lexicon of these words, and a tokenizer whose vocabulary they are."""
    bare = (word.strip().lower() for word in words)
    tokenizer = word_tokenizer(word for word in bare if word)
    lexicon = Lexicon.from_tokenizer(tokenizer)
    if not len(lexicon):
        raise LexLIPError("no word to speak with: give a file with one word a line")
    return lexicon, tokenizer


def _unit(features: Any) -> Tensor:
    # A plain tensor up to transformers 4; since 5 an output object that holds it.
    return normalize(getattr(features, "pooler_output", features).float(), dim=-1)


def _rows(parts: Iterable[Tensor], width: int) -> np.ndarray:
    return np.concatenate([np.zeros((0, width), np.float32), *(p.cpu().numpy() for p in parts)])


AutoConfig.register("lexlip-clip", LexicalConfig, exist_ok=True)
