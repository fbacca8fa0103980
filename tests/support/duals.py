"""Tiny dual encoders with random weights: every family of its own class, with its own tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers

from tests.support.clips import small_tokenizer

TEXTS = (
    "a red dog",
    "",
    "the night",
    "a red dog runs at night and the green star is over it 12345",
)
CHINESE = ("一只红狗", "", "夜", "一只红狗在夜里跑绿星在天上一只红狗在夜里跑绿星在天上")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_TOWER = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip
_EYE = {"image_size": 16, "patch_size": 8, **_TOWER}


def bert_tokenizer() -> Any:
    """BERT's tokenizer over letters, some words and some Chinese characters."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_LETTERS]
    names += [f"##{c}" for c in _LETTERS] + ["red", "dog", "the", *dict.fromkeys("".join(CHINESE))]
    return transformers.BertTokenizer(vocab={n: i for i, n in enumerate(names)})


def roberta_tokenizer() -> Any:
    """XLM-R's tokenizer over letters and some words."""
    special = [(n, 0.0) for n in ("<s>", "<pad>", "</s>", "<unk>")]
    pieces = [("▁", -3.0), ("▁red", -4.0), ("▁dog", -4.0), *((c, -5.0) for c in _LETTERS)]
    return transformers.XLMRobertaTokenizer(vocab=[*special, *pieces, ("<mask>", 0.0)])


def siglip_tokenizer(folder: Path) -> Any:
    """SigLIP's tokenizer on a SentencePiece model that is trained here and now."""
    (folder / "texts.txt").write_text("\n".join(t for t in TEXTS if t) + f"\n{_LETTERS}\n")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts.txt"), model_prefix=str(folder / "spiece"), vocab_size=50,
        hard_vocab_limit=False, character_coverage=1.0, pad_id=-1, unk_id=2, bos_id=-1, eos_id=1,
        control_symbols=["<pad>"], minloglevel=2,
    )  # fmt: skip
    return transformers.SiglipTokenizer(
        str(folder / "spiece.model"), model_input_names=["input_ids"]
    )


def gemma_tokenizer(kind: Any = transformers.GemmaTokenizer) -> Any:
    """Gemma's tokenizer, as SigLIP 2 has it: no start, an end, no mask."""
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *_LETTERS, "re", "red", "do", "dog"]
    merges = [("r", "e"), ("re", "d"), ("d", "o"), ("do", "g")]
    tokenizer = kind(
        vocab={n: i for i, n in enumerate(names)}, merges=merges, padding_side="right",
        add_bos_token=False, add_eos_token=True, model_input_names=["input_ids"],
    )  # fmt: skip
    return tokenizer


def _processor(name: str, **settings: Any) -> Any:
    return getattr(transformers, f"{name}ImageProcessorPil")(**settings)


def _cropped(name: str = "CLIP") -> Any:
    """A picture preprocessor that resizes the shorter edge and crops the middle."""
    return _processor(name, size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


def _squeezed(name: str, **settings: Any) -> Any:
    return _processor(name, size={"height": 16, "width": 16}, **settings)


def _clip_like(name: str, **more: Any) -> tuple[Any, Any, Any]:
    """A model with CLIP's own tokenizer."""
    tokenizer = small_tokenizer()
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 24, **special, **_TOWER}
    eye = {**_EYE, **more.pop("vision_config", {})}
    config = getattr(transformers, f"{name}Config")(
        text_config=text, vision_config=eye, projection_dim=8, **more
    )
    return getattr(transformers, f"{name}Model")(config), tokenizer, _cropped()


def _aimv2(_: Path) -> tuple[Any, Any, Any]:
    return _clip_like("Aimv2", vision_config={"is_native": False})


def _align(_: Path) -> tuple[Any, Any, Any]:
    tokenizer = bert_tokenizer()
    stages = {
        "kernel_sizes": [3, 5], "in_channels": [32, 8], "out_channels": [8, 16], "strides": [1, 2],
        "num_block_repeats": [1, 1], "expand_ratios": [1, 6],
    }  # fmt: skip
    config = transformers.AlignConfig(
        text_config={"vocab_size": len(tokenizer), "max_position_embeddings": 80, **_TOWER},
        vision_config={
            "image_size": 16, "width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 8,
            **stages,
        },
        projection_dim=16,
    )  # fmt: skip
    model = transformers.AlignModel(config)
    for name, buffer in model.named_buffers():  # as training leaves them
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    return model, tokenizer, _squeezed("EfficientNet", do_center_crop=False)


def _altclip(_: Path) -> tuple[Any, Any, Any]:
    tokenizer = roberta_tokenizer()
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 34, "project_dim": 16}
    config = transformers.AltCLIPConfig(
        text_config={**text, **_TOWER}, vision_config={**_EYE}, projection_dim=8
    )
    return transformers.AltCLIPModel(config), tokenizer, _cropped()


def _blip(_: Path) -> tuple[Any, Any, Any]:
    tokenizer = bert_tokenizer()
    text = {"vocab_size": len(tokenizer), "encoder_hidden_size": 16, "bos_token_id": 2, **_TOWER}
    config = transformers.BlipConfig(
        text_config=text,
        vision_config={"initializer_range": 0.02, **_EYE},
        image_text_hidden_size=8,
    )
    return transformers.BlipForImageTextRetrieval(config), tokenizer, _squeezed("Blip")


def _chinese_clip(_: Path) -> tuple[Any, Any, Any]:
    tokenizer = bert_tokenizer()
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 80, **_TOWER}
    config = transformers.ChineseCLIPConfig(
        text_config=text, vision_config={**_EYE}, projection_dim=8
    )
    return (
        transformers.ChineseCLIPModel(config),
        tokenizer,
        _squeezed("ChineseCLIP", do_center_crop=False),
    )


def _flava(_: Path) -> tuple[Any, Any, Any]:
    tokenizer = bert_tokenizer()
    config = transformers.FlavaConfig(
        text_config={"vocab_size": len(tokenizer), **_TOWER},
        image_config={**_EYE},
        multimodal_config={**_TOWER},
        image_codebook_config={"hidden_size": 8, "vocab_size": 8, "num_groups": 4},
        hidden_size=16,
        projection_dim=8,
        init_codebook=False,
    )
    return transformers.FlavaModel(config), tokenizer, _cropped("Flava")


def _groupvit(_: Path) -> tuple[Any, Any, Any]:
    shape = {
        "depths": [1, 1], "num_hidden_layers": 2, "num_group_tokens": [4, 0],
        "num_output_groups": [4, 4],
    }  # fmt: skip
    return _clip_like("GroupViT", vision_config=shape, projection_intermediate_dim=16)


def _metaclip2(_: Path) -> tuple[Any, Any, Any]:
    tokenizer = roberta_tokenizer()
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 24, "eos_token_id": 2}
    config = transformers.MetaClip2Config(
        text_config={**text, **_TOWER}, vision_config={**_EYE}, projection_dim=8
    )
    return transformers.MetaClip2Model(config), tokenizer, _cropped()


def _owlvit(_: Path) -> tuple[Any, Any, Any]:
    model, tokenizer, _ = _clip_like("OwlViT")
    return model, tokenizer, _squeezed("OwlViT")


def _owlv2(_: Path) -> tuple[Any, Any, Any]:
    model, tokenizer, _ = _clip_like("Owlv2")
    return model, tokenizer, _squeezed("Owlv2")


def _siglip(folder: Path, tokenizer: Any = None) -> tuple[Any, Any, Any]:
    tokenizer = tokenizer or siglip_tokenizer(folder)
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 64, **_TOWER}
    config = transformers.SiglipConfig(text_config=text, vision_config={**_EYE})
    return transformers.SiglipModel(config), tokenizer, _squeezed("Siglip")


def _siglip2(folder: Path) -> tuple[Any, Any, Any]:
    return _siglip(folder, gemma_tokenizer())


def _naflex(_: Path) -> tuple[Any, Any, Any]:
    tokenizer = gemma_tokenizer(transformers.Siglip2Tokenizer)
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 64, **_TOWER}
    config = transformers.Siglip2Config(
        text_config=text, vision_config={"num_patches": 16, "patch_size": 8, **_TOWER}
    )
    eye = _processor("Siglip2", patch_size=8, max_num_patches=12)
    return transformers.Siglip2Model(config), tokenizer, eye


def _two_towers(_: Path) -> tuple[Any, Any, Any]:
    tokenizer = bert_tokenizer()
    config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(
        transformers.ViTConfig(**_EYE),
        transformers.BertConfig(vocab_size=len(tokenizer), max_position_embeddings=40, **_TOWER),
        projection_dim=8,
    )
    return transformers.VisionTextDualEncoderModel(config), tokenizer, _squeezed("ViT")


BUILDERS = {
    "aimv2": _aimv2,
    "align": _align,
    "altclip": _altclip,
    "blip": _blip,
    "chinese-clip": _chinese_clip,
    "clip": lambda _: _clip_like("CLIP"),
    "clipseg": lambda _: _clip_like("CLIPSeg"),
    "flava": _flava,
    "groupvit": _groupvit,
    "metaclip-2": _metaclip2,
    "owlv2": _owlv2,
    "owlvit": _owlvit,
    "siglip": _siglip,
    "siglip2": _siglip2,
    "siglip2-naflex": _naflex,
    "vision-text-dual-encoder": _two_towers,
}


def small_dual(family: str, folder: Path, seed: int = 0) -> Path:
    """Write a complete checkpoint of a family with random weights, and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    for part in BUILDERS[family](folder):
        part.save_pretrained(folder)
    return folder
