"""Networks as checkpoints: weights, tokenizer, picture preprocessing and model card in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self

from scipy.sparse import csr_array, vstack
from torch import Tensor
from transformers import PreTrainedModel

from lexlip.data.in_order import in_batches
from lexlip.errors import LexLIPError
from lexlip.lexicon import Lexicon, vocabulary
from lexlip.models.card import CARD, model_card, push, read_record
from lexlip.models.config import LexLIPConfig
from lexlip.models.digests import check_checkpoint
from lexlip.models.dual import refuse_dual_encoder
from lexlip.models.export_files import export_folder
from lexlip.models.fingerprints import ROUNDED, fingerprint, learned
from lexlip.models.hub import check_there
from lexlip.models.pixels import Prepared
from lexlip.models.processing import Processor
from lexlip.models.sentence_files import write_sentence_files
from lexlip.models.speaker import SpeakerMixin
from lexlip.models.towers import TextTower, VisionTower, batches
from lexlip.models.windows import Windows, in_windows, reading


class SavedModel(PreTrainedModel):
    """A network with a processor, a record of its training and a fingerprint."""

    # Encoding runs without gradients but not in torch's inference mode: some trunks (BEiT, DINOv3)
    # keep tables from one pass to the next, and a table of that mode could not be trained with.

    main_input_name = "pixel_values"
    processor: Processor | None = None
    record: Mapping[str, Any] = {}  # of training, for the model card

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Self:  # type: ignore[override]
        """Load weights, tokenizer and picture preprocessing from a folder or the hub.

        Raises
        ------
        LexLIPError
            When the checkpoint is missing, corrupted, or of another model.
        """
        kwargs |= {"output_loading_info": True, "use_safetensors": True}
        check_there(name)
        check_checkpoint(name)
        if export_folder(name) and not (Path(name) / "model.safetensors").is_file():
            raise LexLIPError(
                f"{name} holds an export for onnxruntime, and no network: open it with "
                "lexlip.models.load"
            )
        try:
            loaded: Any = super().from_pretrained(name, *args, **kwargs)
            model, report = loaded
            model.processor = Processor.from_pretrained(name)
            model.record = read_record(name)
        except OSError as error:
            reason = " ".join(str(error).split())[:200]
            raise LexLIPError(
                f"no checkpoint at {name}: give a folder that training wrote ({reason})"
            ) from error
        except LexLIPError:
            raise
        except Exception as error:  # of all kinds, for settings and weights that make no sense
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise LexLIPError(
                f"the checkpoint at {name} is corrupted: put back a copy ({reason})"
            ) from error
        if report["missing_keys"]:  # transformers would leave them as they come from memory
            raise LexLIPError(
                f"{name} is not a {cls.__name__} checkpoint ({min(report['missing_keys'])} and "
                "others are missing): give one of that kind"
            )
        return model.eval()

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:  # type: ignore[override]
        """Save weights, tokenizer, preprocessing and a model card: the folder is complete."""
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
            ``owner/name``; created if missing.
        **kwargs
            As in transformers: private, token, revision, create_pr, commit_message,
            commit_description, max_shard_size.

        Returns
        -------
        huggingface_hub.CommitInfo
        """
        return push(self, repo_id, **kwargs)

    @property
    def fingerprint(self) -> str:
        """sha256 over weights and vocabulary: an index remembers it and refuses another model."""
        return fingerprint(learned(self), self.tokenizer)

    @property
    def older_fingerprints(self) -> tuple[str, ...]:
        """Fingerprints that earlier versions gave the same model, with its constants."""
        state = self.state_dict()
        return () if state.keys() == learned(self).keys() else (fingerprint(state, self.tokenizer),)

    @property
    def rounded(self) -> dict[str, str]:
        """Fingerprints of copies in lower precision, by its name: they know the model again."""
        state = learned(self)
        return {name: fingerprint(state, self.tokenizer, name) for name in ROUNDED}

    @property
    def precision(self) -> str:
        """The type of the weights, such as float32."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer of texts."""
        return self._processor.tokenizer

    @property
    def _processor(self) -> Processor:
        if self.processor is None:
            raise ValueError("this model has no processor: set model.processor first")
        return self.processor

    def pixels(self, images: Sequence[Any]) -> Tensor:
        """Pictures of any kind to pixel values [B, 3, H, W], on the model's device."""
        return self._processor.pixels(images).to(self.device, self.dtype)

    @property
    def image_side(self) -> int | None:
        """Pixels that the shorter side of a picture is decoded to at least; None for all."""
        return self._processor.image_side

    def prepare_image(self, image: Any) -> Prepared:
        """Return one picture of any kind as the model sees it, for the methods that take pictures.

        It is small: prepare pictures one by one, in threads, and encode many together.
        """
        return self._processor.prepare(image)

    def _pixel_batches(self, images: Sequence[Any], size: int) -> Iterable[Tensor]:
        if all(isinstance(image, Prepared) for image in images):
            yield from map(self.pixels, batches(images, size))
            return
        with closing(in_batches(self.prepare_image, images, size)) as prepared:
            yield from map(self.pixels, prepared)


class WordModel(SpeakerMixin, SavedModel):
    """A network with a lexicon: its weights become rows over the vocabulary."""

    lexicon_ids: Tensor

    @property
    def lexicon(self) -> Lexicon:
        """The vocabulary and its allow-list."""
        if "_lexicon" not in self.__dict__:
            tokens = vocabulary(self.tokenizer)
            self.__dict__["_lexicon"] = Lexicon(tokens, self.lexicon_ids.cpu().numpy())
        return self.__dict__["_lexicon"]

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:  # type: ignore[override]
        """Save all that `SavedModel` does, and how sentence-transformers opens the folder."""
        super().save_pretrained(save_directory, **kwargs)
        write_sentence_files(save_directory)

    def _stack(self, rows: Sequence[Tensor]) -> csr_array:
        """Batches of weights over the allow-list [B, Va] to weights over the vocabulary [N, V]."""
        if not rows:
            return csr_array((0, len(self.lexicon.tokens)), dtype="float32")
        parts = [self.lexicon.expand(r.float().cpu().numpy()) for r in rows]
        return csr_array(vstack(parts, format="csr"))


class TwoTowers(SavedModel):
    """The vision tower and the text tower that LexLIP and its dense control share."""

    config_class = LexLIPConfig
    base_model_prefix = "lexlip"
    config: LexLIPConfig

    def __init__(self, config: LexLIPConfig) -> None:
        super().__init__(config)
        self.vision = VisionTower(config)
        self.text = TextTower(config)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Self:  # type: ignore[override]
        """Load weights, tokenizer and picture preprocessing; see `SavedModel.from_pretrained`."""
        refuse_dual_encoder(name)
        return super().from_pretrained(name, *args, **kwargs)

    def resize_images(self, size: int) -> None:
        """Read pictures of `size` x `size` pixels from now on.

        Position embeddings are interpolated in two dimensions; see
        `lexlip.models.trunks.interpolate_grid`. The fingerprint changes with them.
        """
        self.vision.resize(size)
        self.config.vision_config = self.vision.trunk.config
        if self.processor is not None:
            self.processor.image_processor.size = {"height": size, "width": size}

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Texts to ``input_ids`` and ``attention_mask``, int64 [B, L], on the model's device."""
        tokens = self._processor.tokenize(texts, self.config.max_text_length)
        return {name: part.to(self.device) for name, part in tokens.items()}

    def windows(self, texts: Any) -> Windows:
        """Divide texts into parts that fit into the model."""
        room = self.config.max_text_length - self.tokenizer.num_special_tokens_to_add()
        return in_windows(texts, reading(self.tokenizer), room)

    def _text_batches(self, texts: Sequence[str], size: int) -> Iterable[dict[str, Tensor]]:
        return map(self.tokens, batches(texts, size))

    def _image_features(self, images: Sequence[Any], size: int) -> Iterable[Tensor]:
        return map(self.vision.features, self._pixel_batches(images, size))
