"""The shape of a LexLIP model, saved as ``config.json`` beside its weights."""

from __future__ import annotations

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec


class LexLIPConfig(PreTrainedConfig):
    """Everything needed to rebuild a `lexlip.LexLIP` (or a
    `lexlip.models.dense_control.DenseDualEncoder`).

    Parameters
    ----------
    vision_config, text_config : dict
        Configurations of the two towers: any transformers vision model that ends in patches or in
        a feature map (ViT, BEiT, DINOv2, CLIP's, Swin, ResNet, MobileNet), and a text model whose
        tokenizer's vocabulary becomes the lexicon (BERT-like, or CLIP's).
    lexicon_size : int
        Number of vocabulary ids that may carry a weight (the allow-list; the ids themselves are
        a buffer of the model).
    patch_grid : int
        Patch features are averaged to ``patch_grid x patch_grid`` before the vocabulary head
        (0 keeps all). The product patches x lexicon dominates the cost of an image: 7 x 7 costs
        a quarter of 14 x 14.
    neck_layers, neck_heads : int
        Trainable transformer layers between the vision trunk and the image head, at the trunk's
        width. They are what learns when the trunk is frozen.
    neck_positions : bool
        Learn the place of each grid cell; for convolutional trunks, which do not know it.
    own_word_boost : bool
        Learn a weight per term which is added, after the relu, for every term that the text itself
        contains: a text keeps its own words when it expands.
    max_text_length : int
        Longest text in tokens, special tokens included.
    excluded_token_ids : list of int
        Token ids whose *positions* never take part in pooling ([PAD], [CLS], [SEP], [UNK]).
    dense_size : int
        Width of the joint space of the dense dual encoder; unused by LexLIP itself.
    token_size : int
        Width of the patch and word vectors for late interaction (FILIP: 256); 0 for none.
    token_count : int
        Number of tokens that attention pooling reduces patches to (12 to 24); 0 keeps all patches.
    gaussian_size : int
        Dimensions of the Gaussians (PCME); 0 for none.
    head_layers : int
        Transformer layers on each side that belong to these heads alone, so that they can learn
        while the towers stay as they are; 0 reads the states that the words are read from.
    naaf_threshold : float, optional
        Cosine below which NAAF takes a word for absent from a picture; training measures it.

    Examples
    --------
    >>> LexLIPConfig().patch_grid
    7
    """

    model_type = "lexlip"
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="vit"),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
    }

    vision_config: PreTrainedConfig | dict | None = None
    text_config: PreTrainedConfig | dict | None = None
    lexicon_size: int = 0
    patch_grid: int = 7
    neck_layers: int = 2
    neck_heads: int = 3
    neck_positions: bool = False
    own_word_boost: bool = True
    max_text_length: int = 40
    excluded_token_ids: list[int] | None = None
    dense_size: int = 256
    token_size: int = 0
    token_count: int = 0
    gaussian_size: int = 0
    head_layers: int = 0
    naaf_threshold: float | None = None
    initializer_range: float = 0.02


AutoConfig.register("lexlip", LexLIPConfig, exist_ok=True)
