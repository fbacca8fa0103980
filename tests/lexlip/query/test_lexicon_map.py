"""Other languages: vocabularies of any script, and queries through a table of words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertConfig, BertModel, BertTokenizer
from typer.testing import CliRunner

from lexlip import Index, LexLIP, Query
from lexlip.cli import app
from lexlip.errors import LexLIPError
from lexlip.lexicon import may_be_term
from lexlip.query.lexicon_map import LexiconMap
from pretrain.build import build

TABLE = (
    "# Chinese\n红色\tred\n红\tred\n圆\tcircle\n星星\tstars\n的\t\n两个\ttwo\n大\tlarge\n大\tbig\n"
)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "zh-en.tsv"
    path.write_text(TABLE, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text, expected",
    [
        ("红色的圆", "red circle"),  # the longest entry first, and nothing of 的
        ("红圆", "red circle"),
        ("大的星星", "large big stars"),
        ("两个 星星 beside a 红 square", "two stars beside a red square"),
        ("猫", "猫"),
        ("", ""),
    ],
)
def test_chinese_needs_no_spaces(table, text, expected):
    assert LexiconMap.read(table).text(text) == expected


@pytest.mark.parametrize(
    "entries, text, expected",
    [
        ({"rot": "red"}, "Rot, rotes und Karotte", "red , rotes und karotte"),
        ({"roter Kreis": "red circle", "roter": "red"}, "ROTER KREIS", "red circle"),
        ({"लाल": "red"}, "लाल लाली", "red लाली"),  # a mark belongs to its word
        ({"ｒｏｔ": "red"}, "rot", "red"),
        ({"caf\u00e9": "coffee"}, "cafe\u0301", "coffee"),
        ({"สี": "colour", "แดง": "red"}, "สีแดง", "colour red"),
    ],
)
def test_scripts_with_spaces_have_whole_words(entries, text, expected):
    assert LexiconMap(entries).text(text) == expected


def test_every_side_of_a_query_is_read(table):
    query = Query.parse("红色 + 2:圆 -0.5:星星 must:大 -猫>=30 boost:红^2 missing:3 圆^7")
    found = LexiconMap.read(table).query(query)
    expected = 'red + 2:circle -0.5:stars must:"large big" -猫>=30 boost:red^2 missing:3 + circle^7'
    assert found == Query.parse(expected)
    assert LexiconMap.read(table).query(Query.parse("的 + 圆")) == Query.text("circle")
    with pytest.raises(LexLIPError, match="leaves nothing of '的'"):
        LexiconMap.read(table).query(Query.parse("圆 -的"))


def test_a_broken_table_is_an_error(tmp_path):
    for content, message in (
        (b"\xff\xfe", "cannot be read"),
        (b"# nothing\n\n", "no entries"),
        (b"a\tb\nc d\n", "line 2 is not an entry"),
        (b"\tb\n", "line 1 is not an entry"),
    ):
        (tmp_path / "t.tsv").write_bytes(content)
        with pytest.raises(LexLIPError, match=message):
            LexiconMap.read(tmp_path / "t.tsv")
    with pytest.raises(LexLIPError, match="cannot be read"):
        LexiconMap.read(tmp_path / "none.tsv")


def test_chinese_finds_what_english_finds(model, checkpoint, photos, table, tmp_path):
    path = tmp_path / "photos.lex"
    with Index.create(path, model, photos, engine="postings", checkpoint=checkpoint) as index:
        query = LexiconMap.read(table).query(Query.text("红色的圆"))
        hits = index.search(query, k=5)
        assert hits == index.search("red circle", k=5) and hits
        reasons = index.explain(hits[0].id, query)
        assert sum(reason.score for reason in reasons) == hits[0].score
    option = ["--lexicon-map", str(table)]
    found = CliRunner().invoke(app, ["search", str(path), "红色的圆", "-k5", "--json", *option])
    assert [hit["id"] for hit in json.loads(found.stdout)["hits"]] == [hit.id for hit in hits]
    shown = CliRunner().invoke(app, ["words", "红色的圆", "-m", str(checkpoint), *option])
    same = CliRunner().invoke(app, ["words", "red circle", "-m", str(checkpoint)])
    assert shown.stdout == same.stdout and "red" in shown.stdout


CAPTIONS = (
    "一只狗在海滩上", "红色的圆和两个星星", "赤い円と二つの星", "ein roter Kreis über zwei Sternen",
    "लाल घेरा और दो तारे", "красный круг и две звезды", "دائرة حمراء ونجمتان",
    "a red circle and two stars",
)  # fmt: skip


@pytest.fixture(scope="module")
def speaker(tiny_settings, tmp_path_factory):
    """A tiny LexLIP on a text tower with a word-piece vocabulary of many languages."""
    folder = tmp_path_factory.mktemp("many") / "text"
    pieces = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer(strip_accents=False, lowercase=False)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces.train_from_iterator(
        CAPTIONS,
        trainers.WordPieceTrainer(vocab_size=260, special_tokens=special, show_progress=False),
    )
    tokenizer = BertTokenizer(vocab=pieces.get_vocab(), do_lower_case=False, strip_accents=False)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(tokenizer), intermediate_size=64, **shape)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = replace(tiny_settings, model=replace(tiny_settings.model, text=str(folder)))
    built = build(settings, CAPTIONS, LexLIP).eval()
    for head in (built.text_head, built.image_head):
        head.bias.data.add_(1.0)
    return built


def test_a_vocabulary_of_many_languages_works_end_to_end(speaker, photos, tmp_path):
    speaker.save_pretrained(tmp_path / "speaker")
    model = LexLIP.from_pretrained(tmp_path / "speaker")
    words = {model.lexicon.tokens[number] for number in model.lexicon.ids}
    assert {"红", "圆", "星"} <= words and not words & {"a", "[UNK]"}
    assert {word for text in CAPTIONS for word in model.processor.tokenizer.tokenize(text)
            if may_be_term(word)} <= words | {"and", "in"}  # fmt: skip
    with Index.create(
        tmp_path / "index", model, photos, engine="postings", checkpoint=tmp_path / "speaker"
    ) as index:
        for text in CAPTIONS:
            hits = index.search(text, k=12)
            assert hits, text
            reasons = index.explain(hits[0].id, text)
            assert sum(reason.score for reason in reasons) == hits[0].score
    for word in ("红", "круг", "घेरा"):
        assert dict(model.words_of(word)), word
        terms = Query.text(word).exclude(word).prepare(model)
        assert len(terms.conditions) == 1


@pytest.mark.parametrize("token, able", [
    ("dog", True), ("##ing", True), ("狗", True), ("##狗", True), ("लाल", True), ("घेरा", True),
    ("a", False), ("##s", False), ("7", False), ("42", True), (".", False), ("##-", False),
    ("don't", False), ("", False), ("ा", False), ("[MASK]", False), ("_x", False), ("é", True),
])  # fmt: skip
def test_what_may_be_a_term(token, able):
    assert may_be_term(token) is able
