"""The speaker of a dual encoder: its vectors as words, in a checkpoint that stands alone.

Words find, its vectors order (`lexlip.models.speaker.HasVectors`). A checkpoint holds the encoder
itself in the folder ``encoder``, or says where it is. It is opened when something is first encoded:
a query of nothing but words needs no network.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array

from lexlip.data.given import as_item, as_items, as_pictures, as_texts
from lexlip.errors import LexLIPError
from lexlip.lexicon import Lexicon
from lexlip.models.card import CARD, push
from lexlip.models.digests import FILES, check_digests, digests
from lexlip.models.dual import open_dual_encoder
from lexlip.models.dual.base import DualEncoder, SeesPatches
from lexlip.models.lexical.card import lexical_card
from lexlip.models.lexical.code import Array, WordCode
from lexlip.models.lexical.learned import LearnedCode
from lexlip.models.localisation.results import Provenance, TextProvenance, WordPatches
from lexlip.models.sentence_files import SENTENCE_FILES, write_sentence_files
from lexlip.models.speaker import FIND_TERMS, Represented, SpeakerMixin
from lexlip.models.windows import in_windows, pool_vectors, reading
from lexlip.models.word_tokenizer import SPECIAL, WordTokenizer, lexicon_tokenizer
from lexlip.storage.files import read_json, write_json
from lexlip.storage.views import Vectors

CONFIG, WORDS, ENCODER = "config.json", "words.safetensors", "encoder"
FORMAT = "lexlip-words/1"
MODEL_TYPE = "lexlip-words"


class LexicalSpeaker(SpeakerMixin):
    """A dual encoder in words, which `lexlip.models.lexical.lexicalise.lexicalise` makes.

    A `lexlip.models.speaker.Speaker` that encodes pictures and `HasVectors`. Rows of documents are
    scaled so that the product with a query's projections (`project`) comes near the cosine of their
    vectors; they are not normalised again.

    Parameters
    ----------
    encoder : DualEncoder or callable
        The encoder, or what opens it when it is first needed.
    code : WordCode
    words : sequence of str
        The lexicon, a word per row of the code's atoms, no word twice.
    facts : mapping
        ``fingerprint`` and ``width`` of the encoder, and whatever the card tells of it; ``encoder``
        where it lies elsewhere: ``name``, ``revision`` and ``precision``.

    Examples
    --------
    >>> speaker = LexicalSpeaker.from_pretrained("clip-words")           # doctest: +SKIP
    >>> speaker.words_of(Path("beach.jpg"), top_k=3)                     # doctest: +SKIP
    [('beach', 0.21), ('surf', 0.17), ('sand', 0.11)]
    """

    def __init__(
        self,
        encoder: DualEncoder | Callable[[], DualEncoder],
        code: WordCode,
        words: Sequence[str],
        facts: Mapping[str, Any],
    ) -> None:
        if len(words) != len(code) or len(set(words)) != len(words):
            raise LexLIPError(f"{len(words)} words for {len(code)} vectors: give each word once")
        self._opened = encoder
        self.code, self.facts = code, dict(facts)
        tokens = (*SPECIAL, *words)
        self.tokenizer = WordTokenizer(lexicon_tokenizer(words))
        self.lexicon = Lexicon(tokens, np.arange(len(SPECIAL), len(tokens)))
        self.name_or_path = ""

    @cached_property
    def encoder(self) -> DualEncoder:
        """The dual encoder, opened when first needed.

        Raises
        ------
        LexLIPError
            When it is not the one that the checkpoint was made with.
        """
        encoder = self._opened() if callable(self._opened) else self._opened
        if encoder.fingerprint != self.facts["fingerprint"]:
            place = self.facts.get("encoder", {}).get("name") or f"the folder {ENCODER}"
            raise LexLIPError(
                f"{self.name_or_path}: {place} holds another encoder than the words were made "
                "with: write the checkpoint again with lexlip lexicalise"
            )
        return encoder

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the encoder, the code and the lexicon."""
        digest = hashlib.sha256(str(self.facts["fingerprint"]).encode())
        for name, array in sorted(self.code.arrays().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(self.lexicon.hash.encode())
        return digest.hexdigest()

    @property
    def vector_size(self) -> int:
        """Numbers per vector, d."""
        return self.code.width

    @property
    def query_batch(self) -> int:
        """Queries that go through the encoder together.

        One for graphs of 8 bits: they scale activations by the largest one of a batch, so that a
        query would depend on those beside it.
        """
        return 1 if getattr(self.encoder, "precision", None) == "int8" else 32

    def embed_text(self, texts: Sequence[str], batch_size: int = 128) -> Array:
        """Texts to the encoder's own unit vectors, float32 [N, d]; a long one in windows."""
        tokenizer: Any = getattr(self.encoder, "tokenizer", None)
        read, room = reading(tokenizer), 0
        if read is not None:
            room = self.encoder.max_text_length - tokenizer.num_special_tokens_to_add(False)
        parts, counts = in_windows(texts, read, room)
        return pool_vectors(self.encoder.embed_text(parts, batch_size), counts)

    def embed_image(self, images: Sequence[Any], batch_size: int = 32) -> Array:
        """Pictures to the encoder's own unit vectors, float32 [N, d]."""
        return self.encoder.embed_image(images, batch_size)

    @property
    def image_side(self) -> int | None:
        """Pixels that the shorter side of a picture is decoded to at least; None for all."""
        return self.encoder.image_side

    def prepare_image(self, image: Any) -> Any:
        """Return one picture as the encoder sees it; see `lexlip.models.speaker.EncodesImages`."""
        return self.encoder.prepare_image(image)

    def vectors_of(self, items: Sequence[Any], batch_size: int = 32) -> Array:
        """Texts or pictures to unit vectors, centred on the mean of their kind, float32 [N, d].

        A text without letters is a row of zeros.

        Raises
        ------
        ValueError
            For texts and pictures in one call.
        """
        texts = [isinstance(item, str) for item in items]
        if not any(texts):
            return self.code.centred(self.embed_image(items, batch_size), "image")
        if not all(texts):
            raise ValueError("vectors_of takes texts or pictures, not both in one call")
        found = self.code.centred(self.embed_text(items, batch_size), "text")
        return found * np.array([[bool(text.strip())] for text in items], np.float32)

    def represent(
        self, items: Sequence[Any], batch_size: int = 32, max_terms: int = 64
    ) -> Represented:
        """Encode documents, texts or pictures (not both), in one pass.

        Parameters
        ----------
        items : sequence
        batch_size : int
        max_terms : int
            Words that find a document, at most.
        """
        centred = self.vectors_of(items, batch_size)
        filled: Array = np.asarray(centred.any(1), np.float32)
        weights = self._spread(self.code.encode(centred, max_terms), filled)
        said = self._spread(self.code.said(centred), filled)
        marks = (self.code.constants(centred), *self.code.word_scores(centred))
        return Represented(weights, said, Vectors(centred, *marks))

    def encode_image(self, images: Sequence[Any], batch_size: int = 32) -> csr_array:
        """Pictures (paths, bytes, arrays or PIL) to the words that find them, float32 [N, V]."""
        paths = (Path(it) if isinstance(it, str) else it for it in as_pictures(images))
        return self.represent(list(paths), batch_size).weights

    def encode_text(self, texts: Sequence[str], batch_size: int = 128) -> csr_array:
        """Texts to the words that find with them, at most `FIND_TERMS`, float32 [N, V].

        Only positive ones. All words of either sign: `project`.
        """
        return self.ask(as_texts(texts), batch_size)

    def ask(
        self, items: Sequence[Any], batch_size: int = 128, count: int | None = FIND_TERMS
    ) -> csr_array:
        """Queries, texts or pictures (not both), to their projections on the words.

        Parameters
        ----------
        items : sequence
        batch_size : int
        count : int, optional
            Of the positive words that find best; None for all words, of either sign.

        Returns
        -------
        csr_array float32 [N, V]
        """
        asked = list(self.code.project(self.vectors_of(items, batch_size)) if len(items) else ())
        every = np.arange(len(self.code))
        chosen = [every if count is None else self.code.choose(row, count) for row in asked]
        values = [row[ids] for row, ids in zip(asked, chosen, strict=True)]
        starts = np.cumsum([0, *map(len, chosen)])
        flat = (
            np.concatenate([np.zeros(0, np.float32), *values]),
            np.concatenate([np.zeros(0, np.int64), *chosen]),
            starts,
        )
        return self._spread(csr_array(flat, shape=(len(items), len(self.code))))

    def encode_document(self, items: Sequence[Any], batch_size: int = 32) -> csr_array:
        """Documents, texts or pictures (not both), to the words that find them, float32 [N, V]."""
        return self.represent(as_items(items), batch_size).weights

    def project(self, vector: Array) -> Array:
        """Return a vector's projections on the words, signed, over the vocabulary, float32 [V]."""
        found = np.zeros(len(self.lexicon.tokens), np.float32)
        found[self.lexicon.ids] = self.code.project(vector)
        return found

    def choose(self, projections: Array, count: int = FIND_TERMS) -> NDArray[np.int64]:
        """Return the ids of the `count` positive words that find best, best first."""
        return self.lexicon.ids[self.code.choose(projections[self.lexicon.ids], count)]

    def vector_of(self, words: Mapping[int, float]) -> Array:
        """Return the unit vector whose projections on some words come nearest to these weights."""
        numbers = self.lexicon.compact[list(words)]
        return self.code.vector_of(numbers, np.array(list(words.values()), np.float32))

    def picture_scores(self, vector: Array) -> tuple[float, float]:
        """Return mean and standard deviation of a query's cosines with pictures in general."""
        mean, spread = self.code.picture_scores(vector[None])
        return float(mean[0]), float(spread[0])

    @property
    def aligns(self) -> bool:
        """Whether the encoder shows its patches, so that `align` works."""
        return isinstance(self.encoder, SeesPatches)

    def locate(self, picture: Any, terms: Iterable[int], crops: int = 0) -> Provenance:
        """Find the patch that each term fits best; see `lexlip.models.lexical.places.locate`.

        `crops` has no effect: such a speaker looks at the whole picture.
        """
        from lexlip.models.lexical import places

        return places.locate(self, picture, terms)

    def locate_pixels(
        self, picture: Any, terms: Iterable[int], batch_size: int = 32
    ) -> dict[int, NDArray[np.float32]]:
        """Find the pixels that each term needs; see `lexlip.models.lexical.places.occlusion`."""
        from lexlip.models.lexical import places

        return places.occlusion(self, picture, terms, batch_size)

    def trace_text(self, text: str, terms: Iterable[int] | None = None) -> TextProvenance:
        """Find the word of a text that raises each term: `lexlip.models.lexical.places.trace`."""
        from lexlip.models.lexical import places

        return places.trace(self, text, terms)

    def text_attention(self, text: str) -> list[tuple[str, float]]:
        """Share of each word in the text encoder's attention; it explains no score."""
        from lexlip.models.lexical import places

        return places.attention(self, text)

    def align(self, picture: Any, text: str) -> WordPatches:
        """Match each patch with a word of a text; see `lexlip.models.lexical.places.align`."""
        from lexlip.models.lexical import places

        return places.align(self, picture, text)

    def compared(self, weights: csr_array) -> csr_array:
        """Rows as they are: they have the length that scores need."""
        return weights

    def words_of(self, item: Any, top_k: int = 20) -> list[tuple[str, float]]:
        """The words that are true of a picture, or the words that a text asks for.

        Each with its cosine: nearest first, and only those above what is usual.
        """
        item = as_item(item)
        if isinstance(item, str):
            return self.decode(self.encode_text([item]), top_k)[0]
        return self.decode(self.represent([item]).said, top_k)[0]

    def _spread(self, rows: csr_array, filled: Array | None = None) -> csr_array:
        """Weights over the lexicon to weights over the vocabulary; rows not `filled` are empty."""
        data = rows.data if filled is None else rows.data * np.repeat(filled, np.diff(rows.indptr))
        parts = (data.astype(np.float32), self.lexicon.ids[rows.indices], rows.indptr)
        found = csr_array(parts, shape=(rows.shape[0], len(self.lexicon.tokens)))
        found.eliminate_zeros()
        found.sort_indices()
        return found

    def save_pretrained(self, folder: str | os.PathLike[str], copy_encoder: bool = True) -> None:
        """Write the code, the lexicon, a card and the encoder.

        Parameters
        ----------
        folder : path
        copy_encoder : bool
            Whether the folder is complete. Otherwise it says where the encoder is: in its own
            folder, which has to stay where it is, or on the hub.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        facts = {name: it for name, it in self.facts.items() if name not in ("encoder", FILES)}
        if copy_encoder:
            self.encoder.save_pretrained(target / ENCODER)
        else:
            facts["encoder"] = self.facts.get("encoder") or place_of(self.encoder)
        save_file(self.code.arrays(), target / WORDS)
        words = list(self.lexicon.tokens[-len(self.code) :])
        listed = digests(target, (CONFIG, CARD, *SENTENCE_FILES))
        facts = {"model_type": MODEL_TYPE, "format": FORMAT, **facts, "words": words, FILES: listed}
        write_json(target / CONFIG, facts)
        write_sentence_files(target, normalise=False)
        self.card().save(target / CARD)

    def card(self, name: str = "PATH_OR_NAME") -> Any:
        """Return the model card, a huggingface_hub.ModelCard."""
        return lexical_card(self.facts | {"size": len(self.code)}, name)

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:
        """Upload the checkpoint to the hub, and nothing else; see `lexlip.models.card.push`."""
        return push(self, repo_id, **options)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str]) -> LexicalSpeaker:
        """Open a checkpoint: a folder, or a name on the hub.

        Raises
        ------
        LexLIPError
            When it is missing, corrupted, or of another format.
        """
        folder = local_folder(name)
        facts = read_json(folder / CONFIG)
        if facts.get("format") != FORMAT:
            raise LexLIPError(
                f"{name} has format {facts.get('format')!r}, this lexlip reads {FORMAT!r}: "
                "write it again with lexlip lexicalise"
            )
        check_digests(folder, facts, [WORDS])
        try:
            arrays = load_file(folder / WORDS)
            code = (LearnedCode if "rows" in arrays else WordCode).of(arrays)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise LexLIPError(
                f"{folder / WORDS} is missing or corrupted: write the checkpoint again with lexlip "
                "lexicalise"
            ) from error
        words, files = facts.pop("words"), {FILES: facts.pop(FILES, {})}
        kept = {key: value for key, value in facts.items() if key not in ("model_type", "format")}
        place = kept.get("encoder") or {"name": folder / ENCODER}

        def encoder() -> DualEncoder:
            check_digests(folder, files)
            return open_dual_encoder(**place)

        speaker = cls(encoder, code, words, kept)
        speaker.name_or_path = os.fspath(name)
        return speaker


def place_of(encoder: Any) -> dict[str, str | None]:
    """Return where an encoder is opened from: ``name``, ``revision`` and ``precision``."""
    name = encoder.name_or_path
    here = Path(name).is_dir()
    return {
        "name": str(Path(name).resolve()) if here else name,
        "revision": None if here else getattr(encoder, "revision", None),
        "precision": getattr(encoder, "precision", None),
    }


def local_folder(name: str | os.PathLike[str]) -> Path:
    """Return the folder of a checkpoint, from the hub's cache or the hub where it is a name.

    Raises
    ------
    LexLIPError
        When there is none.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(os.fspath(name)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise LexLIPError(f"no checkpoint at {name}: give a folder ({reason})") from error
