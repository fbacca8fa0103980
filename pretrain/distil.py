"""A frozen dense model's embeddings to words: a head that learns the dense model's own ranking.

python -m pretrain.distil --config C model=CKPT out=CKPT2       # CKPT: lexlip lexicalise wrote it
python -m pretrain.studies.distil_crossval embeddings=FOLDER   # its cost, on vectors alone

As in D2S (Nguyen et al., 2024) the dense similarities are soft labels, and one head serves both
modalities. Two things differ. The teacher's answer is known for *any* two vectors, so training
needs no pairs: pictures are mixed, and texts are made of pictures, by the part of a picture that
real captions share with it and what they add. And sparsity is not a penalty but a budget: only the
heaviest terms of an item take part, fewer and fewer of them, so that what is trained is what is
indexed. Where pictures have captions, grounding keeps the words words.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize, softmax
from tqdm import tqdm

from lexlip import settings as toml
from lexlip.cli.console import Config, Job, Overrides
from lexlip.data.collection import Collection
from lexlip.errors import LexLIPError
from lexlip.impacts import top_terms, unit_normalise
from lexlip.lexicon import Lexicon
from lexlip.models import load
from lexlip.models.lexical.code import WordCode
from lexlip.models.lexical.speaker import LexicalSpeaker
from lexlip.models.pooling import log_saturate
from lexlip.settings import Data, option, resolve
from lexlip.storage.files import atomic_directory, check_replaceable, read_json
from pretrain.lexical_head import LexicalHead
from pretrain.objectives import grounding
from pretrain.validate import recall

TEACHERS = ("vectors", "projection")
"""Rankings that a head learns: of the dense vectors, or of what the untrained code makes."""


@dataclass(frozen=True)
class Distillation:
    """Settings of distillation."""

    terms: int = option(64, "terms of a picture that take part in the end")
    query_terms: int = option(64, "terms of a text that take part in the end")
    start_terms: int = option(512, "terms that take part at first")
    steps: int = option(200, "of the optimiser")
    batch_size: int = option(256, "pictures per step, and as many texts")
    lr: float = option(3e-3, "learning rate")
    teacher_temperature: float = option(0.03, "of the dense similarities")
    temperature: float = option(0.05, "of the student, at first; it is learned")
    grounding: float = option(0.3, "weight of the captions' words")
    mixed: float = option(0.5, "largest share of another item that is mixed in")
    teacher: str = option("projection", "projection: the words of the untrained code; or vectors")
    loudness: float = option(3.0, "length of a word's vector at the start")
    seed: int = option(0, "of all that is random")


@dataclass(frozen=True)
class Settings(Distillation):
    """Settings of the job; each field is a key."""

    model: str = option("", "what lexlip lexicalise wrote")
    out: str = option("", "folder of the new checkpoint")
    data: Data = field(default_factory=Data)


@dataclass(frozen=True)
class Embeddings:
    """Training data of a head: float32 arrays of a dense model.

    Parameters
    ----------
    images : array [N, d]
    texts : array [M, d]
    owner : int64 array [M]
        Picture of each text; -1 for texts without one.
    said : csr_array [N, Va], optional
        Count of each word in the captions of a picture.
    """

    images: np.ndarray
    texts: np.ndarray
    owner: np.ndarray
    said: csr_array | None = None


def word_vectors(centred: Tensor, said: csr_array, faith: float = 2.0) -> Tensor:
    """Vectors for words from the pictures whose captions use them, [Va, d].

    The mean of these pictures' centred embeddings, shrunk towards zero by `faith` pictures.
    """
    used = torch.from_numpy((said > 0).astype(np.float32).T.toarray())
    return (used @ centred) / (used.sum(1, keepdim=True) + faith)


def distil(
    head: LexicalHead, data: Embeddings, how: Distillation, code: WordCode | None = None
) -> LexicalHead:
    """Train a copy of a head; the one that is given stays as it is.

    Parameters
    ----------
    head : LexicalHead
        Its words are where training starts; its means are measured anew.
    data : Embeddings
        Nothing else is seen.
    how : Distillation
    code : WordCode, optional
        The untrained code, for the teacher "projection": it ranks what its words add up to.
        Without one the vectors teach.

    Returns
    -------
    LexicalHead

    Raises
    ------
    LexLIPError
        For another teacher.
    """
    if how.teacher not in TEACHERS:
        raise LexLIPError(f"no teacher {how.teacher!r}: choose one of {', '.join(TEACHERS)}")
    torch.manual_seed(how.seed)
    head = copy.deepcopy(head)
    images, texts = (
        normalize(torch.from_numpy(a).float(), dim=1) for a in (data.images, data.texts)
    )
    head.image_mean.copy_(images.mean(0))
    head.text_mean.copy_(texts.mean(0))
    seen, told = head.centred(images, "image"), head.centred(texts, "text")
    taught = seen
    if code is not None and how.teacher == "projection":
        words = code.encode(seen.numpy(), how.terms)
        taught = torch.from_numpy(words @ code.decoder)
    both = torch.cat([seen, taught], dim=1)
    owner = torch.from_numpy(data.owner)
    shared, added = _anatomy(seen, told, owner)
    start = normalize(head.words.data, dim=1) * how.loudness
    head.words.data, head.bias.data = start, _bias(seen @ start.T, how.start_terms / 2)
    scale = nn.Parameter(torch.tensor(1 / how.temperature).log())
    optimizer = torch.optim.Adam([*head.parameters(), scale], lr=how.lr)
    for step in tqdm(range(how.steps), desc="distilling", unit="step", leave=False):
        done = step / how.steps
        for group in optimizer.param_groups:
            group["lr"] = how.lr * min(1.0, (step + 1) / 20, 2 * (1 - done))
        rows = torch.randint(len(seen), (how.batch_size,))
        mixed = _mixed(both[rows], both, how.mixed)
        pictures, shown_by = (normalize(part, dim=1) for part in mixed.chunk(2, dim=1))
        real = min(len(told), how.batch_size // 4)
        made = how.batch_size - real
        extra = added[torch.randint(len(added), (2, made))]
        share = torch.rand(made, 1)
        extra = share.sqrt() * extra[0] + (1 - share).sqrt() * extra[1]
        asked = torch.cat(
            [
                normalize(shared * pictures[:made] + extra, dim=1),
                normalize(_mixed(told[torch.randperm(len(told))[:real]], told, how.mixed), dim=1),
            ]
        )
        falling = min(1.0, 2 * done)  # the budget is reached halfway
        shown = _student(head, pictures, how.start_terms, how.terms, falling)
        wanted = _student(head, asked, how.start_terms, how.query_terms, falling)
        scores, teacher = wanted @ shown.T * scale.exp(), asked @ shown_by.T
        teacher = teacher / how.teacher_temperature
        loss = _soft_cross_entropy(scores, teacher) + _soft_cross_entropy(scores.T, teacher.T)
        if data.said is not None and how.grounding:
            words = torch.from_numpy(data.said[rows.numpy()].toarray()).float()
            pooled = seen[rows] @ head.words.T + head.bias
            loss = loss + how.grounding * grounding(pooled, words)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head.eval()


def _anatomy(seen: Tensor, told: Tensor, owner: Tensor) -> tuple[float, Tensor]:
    """Split captions into a share of their pictures and what they add to it."""
    known = owner >= 0
    own, text = seen[owner[known]], told[known]
    if not len(own):
        return 0.35, normalize(torch.randn(256, seen.shape[1]), dim=1)
    shared = float((own * text).sum() / (own * own).sum())
    return shared, text - shared * own


def _bias(logits: Tensor, active: float) -> Tensor:
    """Biases that leave `active` words above zero in an average item, each word as often."""
    share = min(0.25, active / logits.shape[1])
    return -torch.quantile(logits[:4096], 1 - share, dim=0)


def _mixed(rows: Tensor, pool: Tensor, most: float) -> Tensor:
    """Mix some of another item into each."""
    share = most * torch.rand(len(rows), 1)
    other = pool[torch.randint(len(pool), (len(rows),))]
    return (1 - share) * rows + share * other


def _student(head: LexicalHead, centred: Tensor, first: int, last: int, falling: float) -> Tensor:
    """Unit vectors cut to a budget of terms, which falls from `first` to `last`."""
    weights = log_saturate(centred @ head.words.T + head.bias)
    budget = round(first + (last - first) * falling)
    if budget < weights.shape[1]:
        least = weights.detach().topk(budget, dim=1).values[:, -1:]
        weights = torch.where(weights >= least, weights, 0)
    return normalize(weights, dim=1)


def _soft_cross_entropy(scores: Tensor, teacher: Tensor) -> Tensor:
    return -(softmax(teacher, dim=1) * log_softmax(scores, dim=1)).sum(1).mean()


def caption_words(collection: Collection, tokenizer: Any, lexicon: Lexicon) -> csr_array:
    """Count the words of the lexicon in the captions of each picture, float32 [N, Va]."""
    rows, columns = [], []
    for number, captions in enumerate(collection.captions):
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in captions]
        found = [c for row in ids for c in lexicon.compact[row] if c >= 0]
        rows += [number] * len(found)
        columns += found
    shape = (len(collection), len(lexicon))
    return csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)


def recall_of(head: LexicalHead, images: np.ndarray, texts: np.ndarray, judged: csr_array,
              terms: int | None, query_terms: int | None) -> dict[str, float]:  # fmt: skip
    """Recall of texts against pictures by words, each cut to a number of terms (None keeps all)."""
    with torch.no_grad():
        rows = head(torch.from_numpy(images), "image"), head(torch.from_numpy(texts), "text")
    shown, asked = (csr_array(weights.numpy()) for weights in rows)
    shown = shown if terms is None else top_terms(shown, terms)
    asked = asked if query_terms is None else top_terms(asked, query_terms)
    return recall((unit_normalise(asked) @ unit_normalise(shown).T).toarray(), judged)


def embed(
    model: LexicalSpeaker, collection: Collection
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors of a collection: pictures [N, d], captions [M, d], and the captions' pictures [M]."""
    batches = collection.batches(32, None, model.prepare_image, model.image_side)
    parts = [model.embed_image(images) for _, images in batches]
    texts = [c for captions in collection.captions for c in captions]
    owner = np.repeat(np.arange(len(collection)), [len(c) for c in collection.captions])
    return np.concatenate(parts), model.embed_text(texts), owner


def main(overrides: Overrides = None, config: Config = "scenes") -> None:
    """Train the lexicon head of a CLIP, and nothing else, on the pictures of a config."""
    assert config is not None
    table = {"data": toml.read(config).get("data", {})}
    settings = toml.build(Settings, toml.override(table, overrides or [], Settings), "")
    if not (settings.model and settings.out):
        raise LexLIPError("give model=CHECKPOINT (of lexlip lexicalise) and out=FOLDER")
    out, data = Path(settings.out), settings.data
    check_replaceable(out, "config.json")
    speaker = load(settings.model)
    if not isinstance(speaker, LexicalSpeaker):
        raise LexLIPError(
            f"{settings.model} is not a dual encoder in words: make one with lexlip lexicalise"
        )
    train, dev = data.open(data.train), data.open(data.dev)
    if data.exclude:
        train = train.without(set(read_json(resolve(data.exclude))))
    said = caption_words(train, speaker.tokenizer, speaker.lexicon)
    known = Embeddings(*embed(speaker, train), said)
    head = distil(LexicalHead.of(speaker.code), known, settings, speaker.code)
    words = speaker.lexicon.tokens[-len(speaker.code) :]
    facts = speaker.facts | {"trained": True}
    trained = LexicalSpeaker(speaker.encoder, head.code(speaker.code), words, facts)
    with atomic_directory(out, marker="config.json") as folder:
        trained.save_pretrained(folder)
    images, texts, owner = embed(speaker, dev)
    judged = csr_array((np.ones(len(owner)), (np.arange(len(owner)), owner)))
    found = recall_of(head, images, texts, judged, settings.terms, settings.query_terms)
    for name, figures in (("dense", recall(texts @ images.T, judged)), ("words", found)):
        typer.echo(f"dev, {name}: " + " ".join(f"{k} {100 * v:.1f}" for k, v in figures.items()))
    typer.echo(f"{out}: {len(speaker.lexicon)} words")


app = Job(main, Settings)

if __name__ == "__main__":
    app()
