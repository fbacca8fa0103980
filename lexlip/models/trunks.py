"""Differences between transformers' families of trunks, in one place."""

from __future__ import annotations

import copy
import inspect
import json
from functools import cache
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import AutoConfig, AutoModel, BertConfig

from lexlip.errors import LexLIPError

POSITIONS = "position_embedding"  # ViT, DeiT, DINOv2, CLIP, SigLIP, BEiT with absolute positions
DISTANCES = "relative_position_bias_table"  # BEiT
BESIDE_GRID = 3  # entries of such a table that are not distances: [CLS] to patch, back, and itself


def tower(config: Any) -> Any:
    """Build a trunk from its configuration, without the pooler that nothing here reads."""
    # Eager attention: attention maps need it, and on CPU in bf16 its backward pass measured
    # four times faster than the fused kernel's.
    options: dict[str, Any] = {"attn_implementation": "eager"}
    try:
        return AutoModel.from_config(config, add_pooling_layer=False, **options)
    except TypeError:  # this family has no pooler to leave out
        return AutoModel.from_config(config, **options)


def side(config: Any, which: str) -> Any:
    """One side, ``vision`` or ``text``, of a dual encoder such as CLIP; any other is itself."""
    return getattr(config, f"{which}_config", None) or config


def vision_width(config: Any) -> int:
    """Channels of a vision trunk's output: named by most families, measured for the others.

    Examples
    --------
    >>> vision_width(AutoConfig.for_model("mobilenet_v2", depth_multiplier=0.5))
    1280
    """
    named = getattr(config, "hidden_size", None) or getattr(config, "hidden_sizes", [None])[-1]
    return named or _measured_width(json.dumps(config.to_dict(), sort_keys=True, default=str))


@cache
def _measured_width(config: str) -> int:
    with torch.device("meta"):  # shapes only: no memory, no arithmetic
        trunk = tower(AutoConfig.for_model(**json.loads(config)))
        return trunk(pixel_values=torch.empty(1, 3, 64, 64)).last_hidden_state.shape[1]


def head_config(config: Any) -> BertConfig:
    """Facts of a text trunk for a masked-language head, in BERT's own names."""
    act = str(getattr(config, "hidden_act", None) or getattr(config, "activation", "gelu"))
    epsilon = getattr(config, "layer_norm_eps", 1e-12)
    return BertConfig(hidden_size=config.hidden_size, hidden_act=act, layer_norm_eps=epsilon)


def takes_embeddings(trunk: Any) -> bool:
    """Whether a text trunk can be given word vectors instead of ids; CLIP's cannot."""
    return "inputs_embeds" in inspect.signature(type(trunk).forward).parameters


def feature_map(trunk: Any, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    """Run a vision trunk and arrange its patches as in the picture.

    Parameters
    ----------
    trunk : a transformers vision model
    pixel_values : Tensor [B, 3, H, W]

    Returns
    -------
    whole : Tensor [B, 1, D]
        The trunk's own [CLS], or the mean of the patches where it has none.
    patches : Tensor [B, D, rows, columns]
    """
    # A convolutional trunk is a third faster with channels last (scenes, one thread, bf16).
    pixels = pixel_values.contiguous(memory_format=torch.channels_last)
    states = trunk(pixel_values=pixels).last_hidden_state
    if states.ndim == 4:  # a convolutional trunk: channels x rows x columns
        return states.flatten(2).mean(2).unsqueeze(1), states
    patch, count = getattr(trunk.config, "patch_size", 1), states.shape[1]
    rows, columns = (length // patch for length in pixel_values.shape[-2:])
    if rows * columns > count:  # Swin and others merge patches on their way
        rows = columns = isqrt(count)
    beside = count - rows * columns  # [CLS], a distillation token, registers
    patches = states[:, beside:].transpose(1, 2)
    whole = states[:, :1] if beside else patches.mean(2).unsqueeze(1)
    return whole, patches.unflatten(2, (rows, columns))


def layers(trunk: Any) -> nn.ModuleList:
    """A trunk's stack of layers, lowest first (of stages, where it has stages)."""
    return next(part for part in trunk.modules() if isinstance(part, nn.ModuleList))


def freeze_lowest(trunk: Any, count: int) -> None:
    """Hold still the lowest `count` layers of a trunk and, with them, the embeddings below.

    Raises
    ------
    LexLIPError
        When it has fewer layers.
    """
    stack = layers(trunk)
    if not 0 <= count <= len(stack):
        raise LexLIPError(
            f"model.freeze_layers={count}: this trunk has {len(stack)} layers, give 0 to that"
        )
    if count:
        *_, last = stack[count - 1].parameters()
        for parameter in trunk.parameters():  # in the order in which the picture passes them
            parameter.requires_grad_(False)
            if parameter is last:
                break


def copy_weights(source: Any, target: Any) -> None:
    """Give a trunk the weights of another of its family; position embeddings follow the size.

    What the source does not have stays as it is (a final normalisation that its authors left out).

    Raises
    ------
    LexLIPError
        When they differ in more than the size of the pictures.
    """
    theirs, mine = source.state_dict(), target.state_dict()
    old, new = source.config, target.config
    if not mine.keys() & theirs.keys():
        raise LexLIPError(f"{type(source).__name__} has no weights for {type(target).__name__}")
    for name in mine.keys() & theirs.keys():
        table = theirs[name]
        if table.shape != mine[name].shape:
            table = _resized(name, table, _cells(old), _cells(new))
        if table is None or table.shape != mine[name].shape:
            raise LexLIPError(
                f"{name} is {list(theirs[name].shape)} in the weights and {list(mine[name].shape)} "
                "in the model: give settings that fit the weights"
            )
        mine[name] = table
    target.load_state_dict(mine)


def _cells(config: Any) -> int:
    size, patch = getattr(config, "image_size", 0), getattr(config, "patch_size", 1)
    return (size if isinstance(size, int) else size[0]) // patch


def _resized(name: str, table: Tensor, old: int, new: int) -> Tensor | None:
    if name.endswith(DISTANCES):
        distances = interpolate_grid(table[:-BESIDE_GRID], 2 * old - 1, 2 * new - 1)
        return torch.cat([distances, table[-BESIDE_GRID:]])
    if POSITIONS in name:
        rows = table.reshape(-1, table.shape[-1])  # [1, N, D] or [N, D]
        beside = len(rows) - old**2
        resized = torch.cat([rows[:beside], interpolate_grid(rows[beside:], old, new)])
        return resized.view(*table.shape[:-2], *resized.shape)
    return None


def interpolate_grid(table: Tensor, old: int, new: int) -> Tensor:
    """Stretch a square grid of vectors, in two dimensions and bicubically.

    The official code of LexLIP treats the grid as one long row, so that the neighbours above and
    below are lost, and stretches the entries of [CLS] along with it.

    Parameters
    ----------
    table : Tensor [old * old, D]
        Row by row.
    old, new : int

    Returns
    -------
    Tensor [new * new, D]

    Examples
    --------
    >>> interpolate_grid(torch.ones(4, 3), 2, 5).shape
    torch.Size([25, 3])
    """
    image = table.float().T.unflatten(1, (old, old)).unsqueeze(0)
    image = interpolate(image, size=(new, new), mode="bicubic", align_corners=False)
    return image[0].flatten(1).T.to(table.dtype)


def at_size(trunk: Any, size: int) -> Any:
    """Return the same trunk for pictures of `size` pixels (itself where nothing depends on it)."""
    if getattr(trunk.config, "image_size", size) in (size, [size, size], (size, size)):
        return trunk
    config = copy.deepcopy(trunk.config)
    config.image_size = size
    other = tower(config).to(trunk.device, trunk.dtype)
    copy_weights(trunk, other)
    return other.train(trunk.training)
