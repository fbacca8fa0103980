from __future__ import annotations

import json
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from eval.bench.baselines.bm25 import BM25System, tokens
from eval.bench.baselines.clip import CLIPEncoder, clip, precomputed, read_queries
from eval.bench.baselines.dense import DenseSystem, dual_encoder
from eval.metrics import invert, recall_at
from lexlip.errors import LexLIPError
from tests.support.duals import small_dual

# --- BM25 ---------------------------------------------------------------------------------------

CAPTIONS = [
    ["a dog runs", "the brown dog", "dog on grass", "a dog and a ball", "one dog plays"],
    ["a cat sleeps", "the black cat", "cat on a sofa", "cat naps", "the cat dreams on a sofa"],
    ["two dogs fight", "dogs bark", "grass and dogs", "dog meets dog", "dogs on green grass"],
    ["a red car", "fast car", "car on a road", "the car parks", "a car drives off"],
]


def bm25_by_hand(query, documents, k1=0.9, b=0.4):
    """Lucene's BM25 straight from its formula; [number of documents]."""
    texts = [tokens(document) for document in documents]
    mean_length = sum(map(len, texts)) / len(texts)
    scores = []
    for text in texts:
        counts, score = Counter(text), 0.0
        for word in tokens(query):
            df = sum(word in other for other in texts)
            if not df:
                continue
            idf = math.log(1 + (len(texts) - df + 0.5) / (df + 0.5))
            norm = k1 * (1 - b + b * len(text) / mean_length)
            score += idf * counts[word] / (counts[word] + norm)
        scores.append(score)
    return scores


@pytest.fixture
def captioned(make_gallery):
    return make_gallery(["d", "c", "b", "a"], CAPTIONS)


def expected_ranking(query, names, documents):
    pairs = zip(bm25_by_hand(query, documents), names, strict=True)
    ranked = sorted((-score, name) for score, name in pairs if score > 0)
    return [(name, pytest.approx(-score, rel=1e-5)) for score, name in ranked]


def test_bm25_equals_its_formula(captioned):
    system = BM25System()
    system.index(captioned)
    queries = {q: t for q, t in captioned.queries.items() if q.endswith("#4")}
    queries["repeated"] = "dog dog grass"
    documents = [" ".join(texts[:4]) for texts in CAPTIONS]
    run = system.t2i(queries)
    for query, text in queries.items():
        assert run[query] == expected_ranking(text, captioned.ids, documents)
    held_out = {q: t for q, t in queries.items() if "#" in q}
    back = system.i2t(captioned.ids, held_out)
    for name, document in zip(captioned.ids, documents, strict=True):
        assert back[name] == expected_ranking(document, list(held_out), list(held_out.values()))


def test_bm25_never_indexes_the_asking_caption(make_gallery):
    gallery = make_gallery(["a", "b"], [["one", "two", "three", "four", "secret"], ["x", "hush"]])
    system = BM25System()
    system.index(gallery)
    # b has two captions only: its last one asks.
    assert system.answers(gallery.queries) == ["a#4", "b#1"]
    assert system.t2i({"a#4": "secret", "b#1": "hush"}) == {"a#4": [], "b#1": []}
    assert [name for name, _ in system.t2i({"q": "x"})["q"]] == ["b"]
    assert "human captions" in system.note


def test_bm25_counts_its_postings(captioned):
    system = BM25System()
    system.index(captioned)
    documents = [set(tokens(" ".join(texts[:4]))) for texts in CAPTIONS]
    assert system.terms_per_image == sum(map(len, documents)) / 4
    assert system.bytes_per_image > 0
    assert system.words() is None


def test_bm25_needs_captions(make_gallery):
    with pytest.raises(LexLIPError, match="no captions"):
        BM25System().index(make_gallery(["a"], [[]]))


# --- dense --------------------------------------------------------------------------------------


class Table:
    """An encoder that looks vectors up: pictures by their red channel, texts by the word."""

    fingerprint = "table"

    def __init__(self, vectors):
        self.vectors = np.asarray(vectors, dtype=np.float32)

    def encode_document(self, images):
        return self.vectors[[image.getpixel((0, 0))[0] for image in images]]

    def encode_query(self, texts):
        return self.vectors[[int(text) for text in texts]]


def numbered(make_gallery, ids, captions=5):
    texts = [[str(i)] * captions for i in range(len(ids))]
    return make_gallery(ids, texts, [(i, 0, 0) for i in range(len(ids))])


def test_perfect_vectors_have_perfect_recall(make_gallery):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((40, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    gallery = numbered(make_gallery, [f"p{i}" for i in range(40)])
    system = DenseSystem(Table(vectors), name="table", note="made up", batch_size=7)
    system.index(gallery)
    perfect = {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0}
    assert recall_at(system.t2i(gallery.queries), gallery.qrels) == perfect
    assert recall_at(system.i2t(gallery.ids, gallery.queries), invert(gallery.qrels)) == perfect
    assert system.bytes_per_image == 64
    assert system.terms_per_image is None and system.words() is None


def test_dense_ranking_is_by_score_then_id(make_gallery):
    vectors = np.array([[1, 0], [0, 1], [1, 0], [0.6, 0.8]])
    gallery = numbered(make_gallery, ["z", "m", "a", "k"], captions=1)
    system = DenseSystem(Table(vectors), name="table", note="")
    system.index(gallery)
    run = system.t2i({"q": "0"}, k=3)
    assert run == {"q": [("a", 1.0), ("z", 1.0), ("k", pytest.approx(0.6))]}
    back = system.i2t(["m", "z"], {"c2": "1", "c1": "1", "c0": "0"}, k=2)
    assert back == {"m": [("c1", 1.0), ("c2", 1.0)], "z": [("c0", 1.0), ("c1", 0.0)]}


def test_copies_in_the_gallery_are_refused(make_gallery):
    gallery = numbered(make_gallery, ["a", "b", "a"])
    with pytest.raises(LexLIPError, match="twice"):
        DenseSystem(Table(np.eye(3)), name="table", note="").index(gallery)


def test_a_missing_dense_checkpoint_is_named(tmp_path):
    with pytest.raises(LexLIPError, match="no checkpoint in"):
        dual_encoder(tmp_path / "none")


# --- CLIP ---------------------------------------------------------------------------------------


def small_tokenizer():
    """A CLIP tokenizer over single letters, made on the spot."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[])


def small_clip(folder: Path, tokenizer) -> Path:
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 12,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
        },
        projection_dim=8,
    )
    processor = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
    transformers.CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module", params=["made here", "real"])
def clip_folder(request, tmp_path_factory):
    if request.param == "made here":
        tokenizer = small_tokenizer()
    else:
        from transformers import AutoTokenizer

        source = Path(os.environ.get("LEXLIP_WEIGHTS", "../shared/weights")) / "clip-tokenizer"
        if not source.is_dir():
            pytest.skip("no clip-tokenizer in LEXLIP_WEIGHTS")
        tokenizer = AutoTokenizer.from_pretrained(source)
    return small_clip(tmp_path_factory.mktemp("clip"), tokenizer)


def test_clip_gives_unit_vectors_that_ignore_padding(clip_folder):
    encoder = CLIPEncoder.from_pretrained(clip_folder)
    texts = ["a dog", "a much longer text about a dog and a ball in the green grass"]
    together = encoder.encode_query(texts)
    assert together.shape == (2, 8) and together.dtype == np.float32
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(2), abs=1e-6)
    assert encoder.encode_query(texts[:1])[0] == pytest.approx(together[0], abs=1e-5)
    assert abs(together[0] - together[1]).max() > 1e-3


def test_clip_equals_the_model_called_by_hand(clip_folder):
    import torch
    from PIL import Image
    from transformers import CLIPModel

    encoder = CLIPEncoder.from_pretrained(clip_folder)
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, size=(2, 16, 16, 3), dtype=np.uint8)
    images = [Image.fromarray(p) for p in pixels]
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    scaled = torch.tensor(((pixels / 255 - mean) / std).transpose(0, 3, 1, 2)).float()
    model = CLIPModel.from_pretrained(clip_folder).eval()
    ids = encoder.encoder.tokenizer(["dog"], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        output = model(input_ids=ids, pixel_values=scaled)
    assert encoder.encode_document(images) == pytest.approx(output.image_embeds.numpy(), abs=1e-5)
    assert encoder.encode_query(["dog"]) == pytest.approx(output.text_embeds.numpy(), abs=1e-5)


@pytest.mark.parametrize("family", ["clip", "siglip2"])
def test_clip_as_a_system(family, clip_folder, make_gallery, tmp_path):
    if family != "clip":
        clip_folder = small_dual(family, tmp_path / family)
    rng = np.random.default_rng(2)
    ids = [f"p{i}" for i in range(6)]
    captions = [["a dog", "grey cat"]] * 6
    gallery = make_gallery(ids, captions, rng.integers(0, 256, size=(6, 3)).tolist())
    system = clip(clip_folder)
    system.index(gallery)
    run = system.t2i(gallery.queries)
    assert {len(ranking) for ranking in run.values()} == {6}
    assert system.bytes_per_image == 4 * CLIPEncoder.from_pretrained(clip_folder).encoder.width
    assert set(system.i2t(ids, gallery.queries)) == set(ids)


def test_a_folder_without_clip_is_an_error_for_people(tmp_path):
    with pytest.raises(LexLIPError, match="no dual encoder at"):
        CLIPEncoder.from_pretrained(tmp_path)


# --- vectors computed elsewhere -----------------------------------------------------------------


@pytest.fixture
def vectors_folder(tmp_path):
    """Three pictures, one of them in both files: the float32 row must win over the float16 one."""
    files = {
        "first": (["a.jpg", "b.jpg"], np.array([[9, 0], [0, 1]], dtype=np.float16)),
        "second": (["c.jpg", "b.jpg"], np.array([[3, 4], [1, 0]], dtype=np.float32)),
    }
    for stem, (names, matrix) in files.items():
        (tmp_path / f"{stem}_image_names.json").write_text(json.dumps(names))
        np.save(tmp_path / f"{stem}_image_embeddings.npy", matrix)
    (tmp_path / "queries.tsv").write_text("a.jpg\tone \na.jpg\ttwo\nc.jpg\tthree\n")
    np.save(tmp_path / "query_text_embeddings.npy", np.array([[2.0, 0], [1, 0.1], [0, 5]]))
    return tmp_path


def test_precomputed_by_hand(vectors_folder, make_gallery):
    system = precomputed(vectors_folder)
    assert system.queries == {"a#0": "one", "a#1": "two", "c#0": "three"}
    assert system.qrels == {"a#0": {"a"}, "a#1": {"a"}, "c#0": {"c"}}
    assert system.image_ids == ["a", "b", "c"]
    system.index(make_gallery(["c", "b", "a"], [[], [], []]))
    run = system.t2i(system.queries)
    assert run["a#0"] == [("a", 1.0), ("b", 1.0), ("c", pytest.approx(0.6))]
    assert run["c#0"][0] == ("c", pytest.approx(0.8))
    back = system.i2t(["c"], system.queries)
    assert [name for name, _ in back["c"]] == ["c#0", "a#1", "a#0"]
    assert system.encode_ms is None


def test_precomputed_refuses_what_it_has_no_vector_for(vectors_folder, make_gallery):
    system = precomputed(vectors_folder)
    with pytest.raises(LexLIPError, match=r"1 of 2 pictures \(the first is x\).*pool=FILE"):
        system.index(make_gallery(["a", "x"], [[], []]))
    system.index(make_gallery(["a"], [[]]))
    with pytest.raises(LexLIPError, match="1 of 1 queries"):
        system.t2i({"q": "unheard of"})


def test_precomputed_refuses_counts_that_differ(vectors_folder):
    np.save(vectors_folder / "query_text_embeddings.npy", np.eye(2))
    with pytest.raises(LexLIPError, match="2 vectors for 3 queries"):
        precomputed(vectors_folder)


def test_a_query_file_without_tabs_is_refused(tmp_path):
    (tmp_path / "queries.tsv").write_text("a.jpg\tone\nb.jpg two\n")
    with pytest.raises(LexLIPError, match="line 2"):
        read_queries(tmp_path / "queries.tsv")


def test_real_clip_has_its_known_recall(make_gallery):
    folder = Path(os.environ.get("LEXLIP_PEERS", "../shared/peers")) / "clip-b32-flickr8k"
    if not folder.is_dir():
        pytest.skip("no clip-b32-flickr8k in LEXLIP_PEERS")
    system = precomputed(folder)
    assert (len(system.image_ids), len(system.queries)) == (1_091, 500)
    system.index(make_gallery(system.image_ids, [[]] * 1_091))
    recalls = recall_at(system.t2i(system.queries), system.qrels)
    assert recalls == pytest.approx({"R@1": 0.566, "R@5": 0.866, "R@10": 0.924})
