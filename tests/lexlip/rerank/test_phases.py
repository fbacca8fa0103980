"""Two phases: words find, vectors or all words order, and both engines say the same."""

from __future__ import annotations

import numpy as np
import pytest

from lexlip import Index, Query
from lexlip.errors import LexLIPError
from lexlip.impacts import MAX_QUERY_TERMS, document_impacts
from lexlip.rerank.phases import OrderedHit, whole_terms
from lexlip.storage.vectors import CodedVectors
from tests.support.cone_speaker import cone_speaker, picture

N, TERMS = 300, 12


@pytest.fixture(scope="module")
def made():
    return cone_speaker(N, 200)


@pytest.fixture(scope="module")
def pictures():
    return {f"p{number:03}.jpg": picture(number) for number in range(N)}


@pytest.fixture(scope="module")
def built(made, pictures, tmp_path_factory):
    """Return a function: the index of an engine, with vectors or without; not to be changed."""
    folder, opened = tmp_path_factory.mktemp("indexes"), {}

    def get(kind, vectors="auto"):
        if (kind, vectors) not in opened:
            path = folder / f"{kind}-{vectors}"
            options = {"engine": kind, "max_terms": TERMS, "vectors": vectors}
            opened[kind, vectors] = Index.create(path, made[0], pictures, **options)
        return opened[kind, vectors]

    yield get
    for index in opened.values():
        index.close()


class Oracle:
    """Vectors as they are kept, and impacts, of all pictures, in numpy."""

    def __init__(self, speaker, pictures):
        self.ids = list(pictures)
        self.found = speaker.represent(list(pictures.values()), max_terms=TERMS)
        self.vectors = CodedVectors.encode(self.found.vectors).decode()
        self.liked = np.maximum(np.rint(510 * self.found.vectors.constant), 1)
        self.impacts, self.scale = document_impacts(self.found.weights, TERMS, normalise=False)

    def words(self, query):
        """Score by the words that find, of each picture."""
        total = np.zeros(len(self.ids), np.int64)
        dense = self.impacts.toarray()
        for term, weight in query.terms.items():
            total += weight * dense[:, term]
        return total

    def scores(self, query):
        vectors = self.vectors
        return vectors.vectors.astype(np.float64) @ query.vector - vectors.constant

    def fit(self, query):
        vectors = self.vectors
        cosine = vectors.vectors.astype(np.float64) @ query.vector
        mean, spread = query.picture_scores
        among_words = (cosine - vectors.word_mean) / vectors.word_spread
        return ((cosine - mean) / spread + among_words) / 2


@pytest.fixture(scope="module")
def oracle(made, pictures):
    return Oracle(made[0], pictures)


def assert_ordered(hits, index, oracle, query, k, allowed=None, depth=400):
    """Hits are the best of what the words found, by their vectors."""
    words, scores, fit = oracle.words(query), oracle.scores(query), oracle.fit(query)
    place = {name: number for number, name in enumerate(oracle.ids)}
    may = [n for n in range(N) if words[n] > 0 and (allowed is None or allowed(n))]
    may = sorted(may, key=lambda n: (-words[n], oracle.ids[n]))[: max(k, depth)]
    assert len(hits) == min(k, len(may))
    assert {place[hit.id] for hit in hits} <= set(may)
    for hit in hits:
        at = place[hit.id]
        assert type(hit) is OrderedHit and type(hit.score) is float and type(hit.words) is int
        assert hit.score == pytest.approx(scores[at], abs=1e-5)
        assert hit.words == words[at]
        assert hit.fit == pytest.approx(fit[at], abs=1e-3)
    assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.id))
    lost = [scores[n] for n in may if oracle.ids[n] not in {hit.id for hit in hits}]
    assert not lost or max(lost) <= hits[-1].score + 1e-5


@pytest.mark.parametrize("k", [1, 10, 1000])
def test_vectors_order_what_words_found(built, kind, oracle, k):
    index = built(kind)
    for number in range(0, 40, 4):
        query = index.prepare(f"caption {number}")
        assert 0 < len(query.terms) <= 128
        hits = index.search(query, k)
        assert_ordered(hits, index, oracle, query, k)
        assert index.search(query, k, rerank="vectors") == hits


def test_right_pictures_come_first(built, kind, made):
    index = built(kind)
    first = [index.search(f"caption {n}", 1)[0].id for n in range(60)]
    right = sum(name == f"p{made[1].owner[n]:03}.jpg" for n, name in enumerate(first))
    assert right >= 50, right


def test_only_the_best_by_words_are_ordered_and_k_changes_no_order(built, kind, oracle):
    index = built(kind)
    query = index.prepare("caption 8")
    every = index.search(query, 90, depth=20)
    by_words = [hit.id for hit in index.search(query, 90, rerank="none")]
    for start in range(0, 80, 20):  # groups of 20 by words, each ordered by vectors
        group = every[start : start + 20]
        assert {hit.id for hit in group} == set(by_words[start : start + 20])
        assert group == sorted(group, key=lambda hit: (-hit.score, hit.id))
    for k in (1, 19, 20, 21, 60):
        assert index.search(query, k, depth=20) == every[:k]
    assert [hit.id for hit in every] != by_words
    assert_ordered(index.search(query, 5, depth=20), index, oracle, query, 5, depth=20)


def test_pictures_and_sums_go_the_same_road(built, kind, oracle, pictures):
    index = built(kind)
    shown = Query.image(pictures["p017.jpg"])
    assert index.search(pictures["p017.jpg"], 1)[0].id == "p017.jpg"
    for item in (shown + 2 * Query.text("caption 9"), shown - 0.5 * Query.text("caption 9")):
        query = index.prepare(item)
        assert_ordered(index.search(query, 10), index, oracle, query, 10)


def test_filters_and_conditions_act_in_the_first_phase(made, kind, oracle, pictures, tmp_path):
    from lexlip.data.collection import Collection

    speaker, ids = made[0], list(pictures)
    columns = {"year": [2000 + number % 10 for number in range(N)]}
    source = Collection(ids, [[] for _ in ids], list(pictures.values()), columns=columns)
    said = oracle.found.said
    with Index.create(tmp_path / "i", speaker, source, engine=kind, max_terms=TERMS) as index:
        query = index.prepare("caption 4")
        hits = index.search(query, 10, where="year == 2003")
        assert_ordered(hits, index, oracle, query, 10, lambda number: number % 10 == 3)
        word = speaker.words_of(pictures["p005.jpg"], 1)[0][0]
        term = speaker.lexicon.numbers[word]
        having = set(np.flatnonzero(said[:, [term]].toarray()[:, 0]).tolist())
        assert 0 < len(having) < N
        for text, allowed in (
            ("must", lambda number: number in having),
            ("exclude", lambda number: number not in having),
        ):
            asked = index.prepare(getattr(Query.text("caption 4"), text)(word))
            assert_ordered(index.search(asked, N), index, oracle, asked, N, allowed)
        # What is said is a posting like any other: clouds count it.
        frequencies = index.engine.frequencies([len(speaker.lexicon.tokens) + term])
        assert list(frequencies.values()) == [len(having)]


@pytest.mark.parametrize("vectors", ["auto", "no"])
def test_all_terms_order_exactly(built, kind, oracle, vectors):
    index = built(kind, vectors)
    dense = oracle.impacts.toarray().astype(np.int64)
    for number in range(0, 20, 3):
        query = index.prepare(f"caption {number}")
        terms = whole_terms(query.exact)
        assert min(terms.values()) < 0 and max(map(abs, terms.values())) == 64
        wanted = sum(weight * dense[:, term] for term, weight in terms.items())
        unit = 64 / max(map(abs, query.exact.values())) * index.manifest["scale"] / 510
        wanted = wanted - np.rint(oracle.liked * unit).astype(np.int64)
        words = oracle.words(query)
        found = [n for n in range(N) if words[n] > 0]
        found.sort(key=lambda n: (-wanted[n], oracle.ids[n]))
        hits = index.search(query, 25, rerank="terms" if vectors == "auto" else None)
        assert [(hit.id, hit.score, hit.words, hit.fit) for hit in hits] == [
            (oracle.ids[n], wanted[n], words[n], None) for n in found[:25]
        ]


def test_whole_terms_are_the_largest_of_either_sign():
    rng = np.random.default_rng(0)
    exact = dict(enumerate(rng.standard_normal(5000).tolist()))
    terms = whole_terms(exact)
    for sign in (1, -1):
        own = {term for term, weight in terms.items() if sign * weight > 0}
        largest = sorted(exact, key=lambda term: -sign * exact[term])[:MAX_QUERY_TERMS]
        assert own == set(largest)
    peak = max(map(abs, exact.values()))
    assert all(weight == round(exact[t] / peak * 64) for t, weight in terms.items())
    assert whole_terms({}) == {}


def test_what_orders_is_chosen_or_by_default(built, kind, pictures):
    with_vectors, without = built(kind), built(kind, "no")
    query = with_vectors.prepare("caption 1")
    assert with_vectors.ordered_by(query) == "vectors" and without.ordered_by(query) == "terms"
    plain = with_vectors.search(query, 5, rerank="none")
    assert plain == query.search(with_vectors.engine, 5) == without.search(query, 5, rerank="none")
    ids = dict(query.terms)
    assert with_vectors.search(ids, 5) == plain  # term ids have no vector
    missing = Query.text("caption 1").penalise(20)
    assert with_vectors.ordered_by(with_vectors.prepare(missing)) == "none"
    for index, item, rerank, message in (
        (without, query, "vectors", "keeps no vectors to order hits by"),
        (with_vectors, ids, "vectors", "has no vector to order hits by"),
        (with_vectors, missing, "vectors", "cannot count missing words"),
        (with_vectors, query, "filip", "keeps nothing to rerank with|no heads"),
    ):
        with pytest.raises(LexLIPError, match=message) as raised:
            index.search(item, 5, rerank=rerank)
        assert "\n" not in str(raised.value)
    with pytest.raises(LexLIPError, match="how well a hit fits"):
        without.search(query, 5, min_fit=1.0)


def test_hits_that_do_not_fit_are_left_out(built, kind):
    index = built(kind)
    every = index.search("caption 2", N)
    assert any(hit.fit > 1 for hit in every) and any(hit.fit < 1 for hit in every)
    assert index.search("caption 2", N, min_fit=1.0) == [hit for hit in every if hit.fit >= 1]
    fitting = [hit for hit in every if hit.fit >= 1]
    assert index.search("caption 2", 2, min_fit=1.0) == fitting[:2]
    assert index.search("caption 2", 5, min_fit=1000.0) == []


def test_a_query_that_cancels_out_finds_nothing(built, kind):
    index, nothing = built(kind), Query.text("caption 1") - Query.text("caption 1")
    assert index.search(nothing, 5) == [] == index.search(nothing, 5, rerank="terms")


def test_equal_pictures_come_in_the_order_of_their_ids(made, kind, tmp_path):
    same = {name: picture(7) for name in ("b", "é", "a", "Z", "10", "9")}
    with Index.create(tmp_path / "i", made[0], same, engine=kind) as index:
        for k in range(1, 7):
            found = index.search("caption 14", k, depth=1000)
            assert [hit.id for hit in found] == sorted(same)[:k]
            assert len({hit.score for hit in found}) == 1


def test_the_engines_say_the_same(built, lucene):
    ours, other = built("postings"), built("lucene")
    for number in range(50):
        text = f"caption {number}"
        for rerank in ("vectors", "terms", "none"):
            assert ours.search(text, 20, rerank=rerank) == other.search(text, 20, rerank=rerank)


@pytest.mark.parametrize("rerank", ["vectors", "terms", "none"])
def test_accounts_add_up_in_both_phases(built, kind, made, rerank):
    index, tokens = built(kind), made[0].lexicon.tokens
    for number in (0, 5):
        query = index.prepare(f"caption {number}")
        for hit in index.search(query, 4, rerank=rerank):
            first = getattr(hit, "words", hit.score)
            assert sum(word.score for word in index.explain(hit.id, query)) == first
            found = index.account(hit.id, query, rerank)
            assert found.ordered_by == rerank
            if rerank == "none":
                assert found.score is None and found.as_dict() is None
                continue
            total = sum(share.score for share in found.words) + found.beyond + found.constant
            assert total == pytest.approx(hit.score, abs=1e-6)
            assert found.score == hit.score and found.fit == hit.fit
            if rerank == "terms":
                assert total == hit.score and not found.beyond and found.constant < 0
            held = index.engine.contributions(hit.id, list(query.exact))
            assert {share.word for share in found.words} >= {tokens[term] for term in held} - {
                tokens[t] for t in held if round(query.exact[t], 3) == 0
            } or rerank == "terms"
            scores = [share.score for share in found.words]
            assert scores == sorted(scores, reverse=True) and min(scores) < 0 < max(scores)
    with pytest.raises(LexLIPError, match="no document 'nobody'"):
        index.account("nobody", "caption 0", rerank if rerank != "none" else "vectors")


def test_words_that_are_said_come_first_in_an_explanation(built, kind, made, oracle):
    index, lexicon = built(kind), made[0].lexicon
    query, mixed = index.prepare("caption 3"), 0
    for hit in index.search(query, 10):
        row = oracle.ids.index(hit.id)
        said = {lexicon.tokens[t] for t in oracle.found.said[[row]].indices}
        words = index.explain(hit.id, query)
        marks = [one.word in said for one in words]
        assert marks == sorted(marks, reverse=True)
        assert sum(one.score for one in words) == hit.words
        mixed += len(set(marks)) == 2
    assert mixed
