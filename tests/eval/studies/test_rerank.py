"""The benchmark of the second stage: halves that do not leak, oracles, planted effects."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from eval.bench.task import Task
from eval.metrics import recall_at
from eval.studies import planted, rerank
from eval.studies.rerank import FirstStage, best_weights, fused, main, measure
from eval.studies.uncertainty import deciles
from lexlip.data.draw import Group
from lexlip.data.scenes import make_scenes, matches
from lexlip.errors import LexLIPError
from lexlip.storage.views import Views


@pytest.fixture(scope="module")
def gallery():
    return planted.Drawn(make_scenes(14, seed=3, size=32))


def candidates(n_queries, n_candidates, seed=0):
    """A made-up first stage: query p<i>#0 finds d0, d1, ... with falling scores."""
    rng = np.random.default_rng(seed)
    run = {
        f"p{i}#0": [(f"d{j}", float(n_candidates - j)) for j in range(n_candidates)]
        for i in range(n_queries)
    }
    first = FirstStage(run, Views.empty(n_queries))
    return first, [rng.normal(size=n_candidates).astype(np.float32) for _ in run]


def test_a_weight_is_chosen_on_the_other_half_only():
    first, scores = candidates(40, 5)
    half = {query: rerank._half(query) for query in first.run}
    assert set(half.values()) == {0, 1}
    # Queries of half 0 are right with the first stage, those of half 1 with the reranker.
    qrels = {
        query: {"d0"} if half[query] == 0 else {f"d{int(np.argmax(row))}"}
        for query, row in zip(first.run, scores, strict=True)
    }
    weights = dict(zip(first.run, best_weights(first, scores, qrels), strict=True))
    # So each half gets the weight that is best for the other one.
    zero = {w for query, w in weights.items() if half[query] == 0}
    one = {w for query, w in weights.items() if half[query] == 1}
    assert len(zero) == len(one) == 1 and zero.pop() > 0.5 > 0.2 >= one.pop()


def test_captions_of_a_picture_are_in_one_half():
    assert len({rerank._half(f"photo.jpg#{i}") for i in range(5)}) == 1


def test_fused_rankings_go_from_words_to_reranker():
    first, scores = candidates(3, 6, seed=1)
    words, dense = (fused(first, scores, [w] * 3) for w in (0.0, 1.0))
    for query, row in zip(first.run, scores, strict=True):
        assert [name for name, _ in words[query]] == [name for name, _ in first.run[query]]
        assert [name for name, _ in dense[query]] == [f"d{i}" for i in np.argsort(-row)]


def test_figures_are_those_of_scores_computed_by_hand(model_with_heads, gallery):
    texts = {f"{name}#0": c[0] for name, c in zip(gallery.ids, gallery.captions, strict=True)}
    qrels = {query: {query.rpartition("#")[0]} for query in texts}
    task = Task(gallery, texts, qrels)
    found = measure(model_with_heads, task, ["filip", "csd"], ["int8", "float16"], depth=14)
    rows = {(row["reranker"], row["codec"]): row for row in found["rows"]}
    assert set(rows) == {("filip", "int8"), ("filip", "float16"), ("csd", "int8")}
    _, pictures = model_with_heads.represent_image([gallery.image(i) for i in range(14)])
    _, queries = model_with_heads.represent_text(list(texts.values()))
    right = []
    for number in range(len(texts)):
        words = queries.tokens[number, : queries.counts[number]]
        scores = [(t[:n] @ words.T).max(0).mean() for t, n in
                  zip(pictures.tokens, pictures.counts, strict=True)]  # fmt: skip
        right.append(int(np.argmax(scores)) == number)
    everything = found["first_stage"]["R@14"] == 1.0  # else candidates are missing
    assert everything and rows["filip", "float16"]["R@1"] == pytest.approx(np.mean(right))
    assert abs(rows["filip", "int8"]["R@1"] - np.mean(right)) <= 1 / 14
    assert rows["filip", "int8"]["bytes_per_image"] < rows["filip", "float16"]["bytes_per_image"]
    assert len(found["uncertainty"]["R@1"]) == 10
    assert "first stage" in rerank.table(found)


def test_deciles_follow_a_planted_uncertainty():
    n = 100
    level = np.linspace(-3, 1, n).astype(np.float32)[:, None].repeat(4, 1)
    nothing = np.zeros((n, 0, 0), np.float32)
    order = np.random.default_rng(0).permutation(n)
    queries = Views(nothing, np.zeros(n, np.int32), np.zeros_like(level), level[order])
    names = [f"q{i}" for i in range(n)]
    run = {name: [("a", 1.0)] for name in names}
    # The surer the query, the more often it is right.
    qrels = {name: {"a"} if order[i] % 10 < 10 - order[i] // 10 else {"b"}
             for i, name in enumerate(names)}  # fmt: skip
    found = deciles(queries, names, run, qrels)
    assert found["R@1"] == pytest.approx([1 - 0.1 * i for i in range(10)])
    assert found["spearman"] == pytest.approx(-1)
    assert np.mean(found["R@1"]) == pytest.approx(recall_at(run, qrels, (1,))["R@1"])


def test_planted_questions_have_the_right_answers():
    scenes = make_scenes(300, seed=1, size=32)
    place = {scene.id: scene for scene in scenes}
    little = planted.small(scenes)
    assert len(little.texts) > 10
    for query, right in little.qrels.items():
        own = query.rpartition("#")[0]
        assert own in right
        assert "small" in little.texts[query] and little.texts[query].startswith("one ")
        assert sum(group.size == "small" for group in place[own].groups) == 1
    lacking = planted.missing(scenes)
    assert len(lacking.texts) > 10 and lacking.among is not None
    for query, among in lacking.among.items():
        right = lacking.qrels[query]
        assert right < among and query.rpartition("#")[0] in right
        wrong = set()
        for phrase in (part.split() for part in lacking.texts[query].split(" and ")):
            count, colour, shape = phrase
            shown = {s.id for s in scenes if any(
                (g.colour, g.count) == (colour, ["one", "two", "three"].index(count) + 1)
                and shape.startswith(g.shape) for g in s.groups)}  # fmt: skip
            assert right <= shown
            wrong ^= shown
        assert among - right == wrong  # each wrong one has just one of the two


def test_graded_texts_fit_what_they_say_and_more_the_less_they_say():
    scenes = make_scenes(200, seed=1, size=32)
    asked = planted.graded(scenes)
    fits = {text: len(right) for text, right in asked.qrels.items()}
    counts = {"one": 1, "two": 2, "three": 3}
    for text, right in asked.qrels.items():
        words = text.split(" and ")[0].split()
        shape = words[-1] if words[0] == "one" else words[-1].removesuffix("s").removesuffix("e")
        shown = {s.id for s in scenes if any(
            g.count == counts[words[0]] and g.shape.startswith(shape)
            and set(words[1:-1]) <= {g.size, g.texture, g.colour} for g in s.groups)}  # fmt: skip
        assert right <= shown and right
        assert right == shown or " and " in text
    short, long = ([n for t, n in fits.items() if len(t.split()) == k] for k in (2, 5))
    assert np.mean(short) > 3 * np.mean(long)


def test_phrases_are_captions_of_the_grammar():
    from lexlip.data.scenes import vocabulary

    text, pattern = planted.phrase(Group("cross", "blue", "striped", "large", 3, "left"), True)
    assert text == "three large striped blue crosses" and set(text.split()) <= set(vocabulary())
    assert pattern.texture == "striped"
    scene = make_scenes(1, seed=0)[0]
    from lexlip.data.meaning import Predicate

    assert matches(Predicate((planted.phrase(scene.groups[0], True)[1],)), scene)


def test_commands_write_their_numbers(model_with_heads, tmp_path):
    model_with_heads.save_pretrained(tmp_path / "model")
    (tmp_path / "tiny.toml").write_text(
        f"""
        [data]
        source = "scenes"
        scenes = {{ train = 5, dev = 6, test = 4, size = 32 }}
        cache = "{tmp_path / "cache"}"
        """
    )
    out = tmp_path / "out"
    model = f"model={tmp_path / 'model'}"
    keys = [model, f"out={out}", "rerankers=filip,naaf,csd"]
    result = CliRunner().invoke(rerank.app, ["--config", str(tmp_path / "tiny.toml"), *keys])
    assert result.exit_code == 0, result.output
    rows = json.loads((out / "metrics.json").read_text())["rows"]
    wanted = {"reranker", "split", "first_stage_R@1", "R@1", "R@5", "R@10", "ms_per_100"}
    assert wanted | {"bytes_per_image", "seed"} <= rows[0].keys()
    assert (out / "uncertainty.png").stat().st_size > 1000
    keys = [model, "pictures=60", f"out={tmp_path / 'p'}"]
    result = CliRunner().invoke(planted.app, keys)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "p" / "metrics.json").read_text())
    assert [row["effect"] for row in found["rows"]] == ["small", "missing"]
    assert set(found["vague"]) == {"texts", "pictures"}


@pytest.mark.parametrize("keys", [[], ["rerankers=filip"]])
def test_a_model_without_heads_is_refused(checkpoint, tmp_path, keys):
    with pytest.raises(LexLIPError, match="LexLIP has no heads to rerank with"):
        main([f"model={checkpoint}", f"out={tmp_path}", *keys])
