"""Distillation on vectors alone: the dense ranking survives, means are learned, words are said."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from lexlip.errors import LexLIPError
from lexlip.models import load
from lexlip.models.lexical.learned import LearnedCode
from lexlip.models.lexical.lexicalise import lexicalise
from pretrain.distil import Distillation, Embeddings, distil, main, word_vectors
from pretrain.lexical_head import LexicalHead
from pretrain.studies.distil_crossval import halves, measure, read_vectors
from tests.support.clips import small_clip, small_tokenizer
from tests.support.cones import cones

WIDTH, WORDS = 16, 60
HOW = Distillation(terms=12, query_terms=12, start_terms=30, steps=60, batch_size=64, lr=1e-2)


@pytest.fixture(scope="module")
def world():
    """Pictures of three topics each, and captions that share part of them: two separate cones."""
    rng = np.random.default_rng(0)
    topics = rng.standard_normal((20, WIDTH))
    said = np.zeros((260, 20), dtype=np.float32)
    for row in said:
        row[rng.choice(20, 3, replace=False)] = 1
    images = said @ topics + 6
    owner = np.repeat(np.arange(260), 2)
    texts = images[owner] - 12 + 0.5 * rng.standard_normal((520, WIDTH))
    words = csr_array(np.concatenate([said, np.zeros((260, WORDS - 20), np.float32)], axis=1))
    return images.astype(np.float32), texts.astype(np.float32), owner, words


def fresh(seed=0):
    torch.manual_seed(seed)
    return LexicalHead(WORDS, WIDTH)


def train(world, **changes):
    images, texts, owner, words = world
    kept = owner < 200
    data = Embeddings(images[:200], texts[kept], owner[kept], words[:200])
    return distil(fresh(), data, replace(HOW, **changes))


@pytest.fixture(scope="module")
def trained(world):
    return train(world)


def cut(weights, k):
    least = weights.topk(k, dim=1).values[:, -1:]
    weights = torch.where(weights >= least, weights, 0)
    return torch.nn.functional.normalize(weights, dim=1)


def top1(head, world):
    """Share of unseen captions whose picture comes first, at 12 terms; dense and chance beside."""
    images, texts, owner, _ = (np.asarray(x) if not hasattr(x, "nnz") else x for x in world)
    new = owner >= 200
    with torch.no_grad():
        shown = cut(head(torch.tensor(images[200:]), "image"), HOW.terms)
        asked = cut(head(torch.tensor(texts[new]), "text"), HOW.terms)
    return float(((asked @ shown.T).argmax(1).numpy() == owner[new] - 200).mean())


def test_unseen_pictures_are_found_by_words_as_by_vectors(trained, world):
    def unit(rows):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    images, texts, owner, _ = world
    seen = unit(unit(images) - unit(images[:200]).mean(0))
    told = unit(unit(texts) - unit(texts[owner < 200]).mean(0))
    new = owner >= 200
    dense = float(((told[new] @ seen[200:].T).argmax(1) == owner[new] - 200).mean())
    assert dense > 0.9 and top1(trained, world) > dense - 0.05


def test_means_are_those_of_unit_embeddings(trained, world):
    unit = world[0][:200] / np.linalg.norm(world[0][:200], axis=1, keepdims=True)
    assert trained.image_mean.numpy() == pytest.approx(unit.mean(0), abs=1e-5)
    assert not trained.training


def test_words_mean_what_captions_say_when_they_start_so(trained, world):
    images, texts, owner, words = world
    unit = images[:200] / np.linalg.norm(images[:200], axis=1, keepdims=True)
    start = fresh()
    start.words.data = word_vectors(torch.tensor(unit - unit.mean(0)), words[:200])
    start.words.data += 0.01 * torch.randn(WORDS, WIDTH)  # most of these words are never said
    kept = owner < 200
    data = Embeddings(images[:200], texts[kept], owner[kept], words[:200])
    heads = trained, *(distil(start, data, replace(HOW, grounding=g)) for g in (0.0, 1.0))
    truth = torch.tensor(words[200:].toarray()) > 0
    found = []
    for head in heads:
        with torch.no_grad():
            best = head(torch.tensor(images[200:]), "image").topk(3, dim=1).indices
        found.append(truth.gather(1, best).float().mean().item())
    code, loose, grounded = found
    assert code < 0.3 < loose < grounded and grounded > 0.75


def test_the_head_that_is_given_stays_as_it_is(world):
    images, texts, owner, _ = world
    head = fresh()
    before = {name: value.clone() for name, value in head.state_dict().items()}
    one, two = (
        distil(head, Embeddings(images, texts, owner), replace(HOW, steps=2)) for _ in range(2)
    )
    assert all(torch.equal(before[name], value) for name, value in head.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_texts_without_pictures_will_do(world):
    images, texts, _, _ = world
    data = Embeddings(images[:200], texts, np.full(len(texts), -1))
    assert torch.isfinite(distil(fresh(), data, replace(HOW, steps=2)).words).all()


def test_word_vectors_are_shrunk_means():
    seen = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    said = csr_array(np.array([[1, 0, 0], [0, 2, 0], [1, 1, 0]], dtype=np.float32))
    expected = [[2 / 4, 1 / 4], [1 / 4, 2 / 4], [0, 0]]
    assert word_vectors(seen, said).numpy() == pytest.approx(np.array(expected))


# The commands


@pytest.fixture(scope="module")
def vectors(world, tmp_path_factory):
    """A folder of vectors as somebody else computed them, and captions of its pictures."""
    folder = tmp_path_factory.mktemp("vectors")
    images, texts, owner, words = world
    names = [f"p{number:03}" for number in range(len(images))]
    np.save(folder / "all_image_embeddings.npy", images)
    (folder / "all_image_names.json").write_text(json.dumps([f"{n}.jpg" for n in names]))
    np.save(folder / "query_text_embeddings.npy", texts[:300])
    lines = [f"{names[i]}.jpg\ta caption" for i in owner[:300]]
    (folder / "queries.tsv").write_text("\n".join(lines))
    said = [" ".join(f"word{c}" for c in np.flatnonzero(row)) for row in words.toarray()]
    return folder, {name: [text] for name, text in zip(names, said, strict=True)}


def test_halves_share_no_picture():
    owner = np.repeat(np.arange(0, 40, 2), 3)
    first, second = halves(owner, 50, seed=0)
    assert not set(first) & set(second) and set(first) | set(second) == set(range(50))
    assert len(set(first) & set(owner)) == 10 and abs(len(first) - len(second)) <= 1


def test_cross_validation_measures_what_it_never_saw(vectors):
    folder, captions = vectors
    read = read_vectors(folder)
    assert read[1].shape == (260, WIDTH) and len(read[3]) == 300
    found = measure(*read, captions, HOW)
    assert set(found["dense"]) == {"R@1", "R@5", "R@10"}
    names = [name for name in found if name != "dense"]
    assert found["all terms, queries all"]["R@5"] > 0.6 and len(names) == 5
    shuffled = np.random.default_rng(0).permutation(read[3])  # nothing can be learned of these
    assert measure(*read[:3], shuffled, captions, replace(HOW, steps=5))["dense"]["R@1"] < 0.1


def test_a_folder_without_vectors_is_one_line(tmp_path):
    with pytest.raises(LexLIPError, match="holds no vectors"):
        read_vectors(tmp_path)
    (tmp_path / "queries.tsv").write_text("")
    np.save(tmp_path / "query_text_embeddings.npy", np.zeros((2, 3)))
    with pytest.raises(LexLIPError, match="2 text vectors for 0 queries"):
        read_vectors(tmp_path)


@pytest.mark.slow
def test_a_clip_with_words_is_distilled_into_a_checkpoint(tiny_run, images, tmp_path):
    clip = small_clip(tmp_path / "clip", small_tokenizer())
    before = lexicalise(clip, images, ["red", "green", "circle", "star", "small"])
    before.save_pretrained(tmp_path / "words")
    how = ["terms=2", "query_terms=2", "start_terms=4", "steps=5"]
    main([f"model={tmp_path / 'words'}", f"out={tmp_path / 'out'}", *how], tiny_run)
    after = load(tmp_path / "out")
    assert type(after.code) is LearnedCode and after.facts["trained"]
    assert after.encoder.fingerprint == before.encoder.fingerprint
    assert after.fingerprint != before.fingerprint
    assert after.encode_image(images).shape == before.encode_image(images).shape
    assert after.represent(images, max_terms=2).weights.nnz <= 2 * len(images)


def test_another_checkpoint_cannot_be_distilled(checkpoint, tiny_run, tmp_path):
    with pytest.raises(LexLIPError, match="lexlip lexicalise"):
        main([f"model={checkpoint}", f"out={tmp_path / 'out'}"], tiny_run)
    assert not (tmp_path / "out").exists()


def test_words_of_an_encoder_are_measured_beside_their_code():
    world = cones(pictures=120, words=80)
    ids = [f"p{number}" for number in range(120)]
    given = (ids, world.pictures, world.captions, world.owner, {})
    how = replace(HOW, steps=30)
    found = measure(*given, how, world.words)
    code = [name for name in found if name.startswith("untrained")]
    assert len(code) == 2 and found[code[0]]["R@5"] > 0.7
    other = measure(*given, replace(how, teacher="vectors"), world.words)
    assert other[code[0]] == found[code[0]]
    assert any(other[name] != found[name] for name in found if name not in code)
    with pytest.raises(LexLIPError, match="no teacher 'x'"):
        measure(*given, replace(how, teacher="x"), world.words)
