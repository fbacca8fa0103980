"""Many queries at once: what each gets is what it gets alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lexlip import Index, Query
from lexlip.errors import LexLIPError
from lexlip.models.lexical.speaker import LexicalSpeaker
from lexlip.rerank.many import in_threads
from tests.support.cone_speaker import cone_speaker, picture

WORDS = ("red", "blue", "green", "star", "circle", "square", "snow", "large", "small", "two")


@pytest.fixture(scope="module")
def coloured():
    rng = np.random.default_rng(5)
    return {
        f"{i:02}": rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for i in range(40)
    }  # fmt: skip


@pytest.fixture
def index(kind, model_with_heads, coloured, tmp_path, no_flush):
    from lexlip.data.collection import Collection

    documents = Collection(
        list(coloured),
        [[] for _ in coloured],
        list(coloured.values()),
        columns={"number": list(range(len(coloured)))},
    )
    path = tmp_path / "i.lex"
    with Index.create(
        path, model_with_heads, documents, engine=kind, keep_views=True, keep_floats=True
    ) as made:
        yield made


@pytest.fixture
def asked(index, images, photos):
    """Queries of every kind, some of them twice."""
    star, heavy = Query.text("a star"), {3: 64, 9: 2}
    return [
        "a red circle above two blue squares",
        photos / "03.png",
        "two blue squares",
        star + 2 * Query.text("snow") - 0.5 * Query.image(images[2]),
        star.exclude("red").boost("star", 2),
        Query.parse('"large green star" must:green'),
        Query.parse("must:blue"),
        Query.from_words({"red": 20, "star": -3}),
        Query.from_words({"red": 0.25, "square": 0.5}).penalise(3),
        "two blue squares",
        "",
        "nothingofthelexicon",
        heavy,
        images[4],
        index.prepare("a small blue square"),
        {"red": 3, "circle": 1},
        {},
    ]  # fmt: skip


def same(index, asked, **options):
    alone = [list(index.search(item, **options)) for item in asked]
    together = index.search_many(asked, **options)
    assert [[hit.id for hit in hits] for hits in together] == [
        [hit.id for hit in hits] for hits in alone
    ]
    for one, other in zip(alone, together, strict=True):
        assert [type(hit) for hit in one] == [type(hit) for hit in other]
        for hit, same in zip(one, other, strict=True):
            numbers = [it for it in hit[1:] if it is not None]
            assert numbers == pytest.approx(
                [it for it in same[1:] if it is not None], rel=1e-5, abs=1e-5
            )
    return together


def test_hits_of_many_are_those_of_each_alone(index, asked):
    found = same(index, asked, k=7)
    assert sum(map(bool, found)) > 10 and len({tuple(hits) for hits in found}) > 8
    same(index, asked, k=7, where="number >= 10 and number < 30")
    same(index, asked, k=3, max_terms=2)
    same(index, asked, k=5, min_fit=0.4)
    whole = [item for number, item in enumerate(asked) if number != 8]  # has a penalty
    same(index, whole, k=5, rescore=20)
    looks = [it for it in asked[:7]] + [asked[9], asked[13], asked[14]]
    same(index, looks, k=5, rerank="filip", depth=9)
    same(index, looks, k=5, rerank="csd")
    assert index.search_many([]) == [] and index.search_many(iter(["red"])) == [index.search("red")]


def test_one_pass_through_the_encoder_serves_all(index, monkeypatch, images):
    model, passes = index.model, []
    for name in ("encode_text", "encode_image", "represent_text", "represent_image"):
        whole = getattr(model, name)

        def counted(items, *rest, whole=whole, name=name):
            passes.append((name, len(items)))
            return whole(items, *rest)

        monkeypatch.setattr(model, name, counted)
    asked = ["a star", Query.image(images[1]), "a red star", Query.text("a star") + Query.text("x")]
    index.search_many(asked)
    assert sorted(passes) == [("encode_image", 1), ("encode_text", 3)]  # "a star" once
    passes.clear()
    index.search_many(asked, rerank="filip")
    assert sorted(name for name, _ in passes if name.startswith("represent")) == [
        "represent_image", "represent_text",
    ]  # fmt: skip


@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), min_size=1, max_size=40))
@settings(max_examples=15)
def test_what_is_asked_beside_a_query_changes_nothing(model, texts):
    queries = [Query.text(" ".join(words)) for words in texts]
    index = _Prepares(model)
    together = index.prepare_many(queries)
    for query, found in zip(queries, together, strict=True):
        alone = query.prepare(model)
        assert dict(found.terms) == dict(alone.terms)
        assert found.exact == pytest.approx(alone.exact, rel=1e-4, abs=1e-6)


class _Prepares(Index):
    """An index as far as it encodes."""

    def __init__(self, model):
        self._model = model


@pytest.mark.parametrize("count", [1, 3])
def test_errors_name_the_query(index, tmp_path, count):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    for wrong, reason in (
        (Query.parse("must:nothingofthelexicon red"), "not in the model's lexicon"),
        (Query.parse("-red"), "only what is not wanted"),
        (broken, "broken.png"),
        (7, "neither a text nor a picture"),
        ({4: 65}, "weight 65"),
    ):
        with pytest.raises(LexLIPError, match=f"^query {count + 1}: .*{reason}"):
            index.search_many(["red"] * count + [wrong, "blue"])
    with pytest.raises(LexLIPError, match="^k is 0"):
        index.search_many(["red"], k=0)
    for one in ("red", {"red": 1}, Query.text("red"), np.zeros((4, 4, 3), np.uint8)):
        with pytest.raises(LexLIPError, match="give a list of queries"):
            index.search_many(one)


def test_threads_keep_the_order_and_name_the_first_error():
    assert in_threads(lambda n: n * n, range(100), 4) == [n * n for n in range(100)]
    assert in_threads(str, range(100), 1) == in_threads(str, range(100)) == [*map(str, range(100))]

    def fails(number):
        if number in (40, 90):
            raise LexLIPError("no")
        return number

    with pytest.raises(LexLIPError, match="^query 41: no"):
        in_threads(fails, range(100), 4)
    with pytest.raises(LexLIPError, match="threads is 0"):
        in_threads(fails, range(3), 0)


@pytest.mark.parametrize("vectors", ["yes", "no"])
def test_vectors_order_many_as_they_order_one(kind, vectors, tmp_path, no_flush):
    speaker = cone_speaker(120, 80)[0]
    some = {f"p{number:03}.jpg": picture(number) for number in range(90)}
    asked = [f"caption {n}" for n in (3, 50, 3)] + [picture(7), {"bada": 3.0, "bade": -1.0}]
    asked += [Query.text("caption 9") - 0.5 * Query.image(picture(3)), Query.parse("must:bada")]
    path = tmp_path / "i.lex"
    with Index.create(path, speaker, some, engine=kind, vectors=vectors, max_terms=9) as index:
        asked = [it for it in asked if not isinstance(it, Query) or it.parts]
        assert all(same(index, asked, k=9)[:4])
        same(index, asked, k=4, rerank="terms", depth=20)
        same(index, asked, k=4, rerank="none")


def test_graphs_of_8_bits_take_one_query_at_a_time(tmp_path, no_flush):
    speaker = cone_speaker(120, 80)[0]
    sizes, whole = [], speaker.encoder.embed_text

    def watched(texts, batch_size=128):
        sizes.append(batch_size)
        return whole(texts)

    speaker.encoder.embed_text = watched
    for precision, size in (("int8", 1), ("fp16", 32), (None, 32)):
        speaker.encoder.precision = precision
        assert isinstance(speaker, LexicalSpeaker) and speaker.query_batch == size
        _Prepares(speaker).prepare_many(["caption 3", "caption 4"])
        assert sizes.pop() == size
