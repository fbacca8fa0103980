"""SparseEncoders of sentence-transformers as speakers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.modules import Router, SparseStaticEmbedding
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from typer.testing import CliRunner

from lexlip import Index
from lexlip.cli import app
from lexlip.errors import LexLIPError
from lexlip.models import load
from lexlip.models.dual.sentence_models import TRUST
from lexlip.models.sparse_encoder import SparseSpeaker, spelled
from lexlip.models.speaker import EncodesImages
from lexlip.models.word_tokenizer import word_tokenizer
from tests.support.tiny_splade import TinySplade, write

TEXTS = ["red dog", "", "the star at night", "dog"]


def byte_level_tokenizer():
    """ModernBERT's kind of tokenizer: Ġ at the starts of words."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "Ġ"]
    merges = [("d", "o"), ("do", "g"), ("Ġ", "dog"), ("Ġ", "r"), ("Ġr", "e"), ("Ġre", "d")]
    names += ["".join(pair) for pair in merges]
    raw = Tokenizer(models.BPE({n: i for i, n in enumerate(names)}, merges, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip


def tiny(tokenizer=None, **options):
    torch.manual_seed(0)
    extra = options.pop("extra", 0)
    words = tokenizer or word_tokenizer(["red", "dog", "the", "star", "night", "at", "running"])
    return SparseEncoder(
        modules=[TinySplade(words, extra)], device="cpu", similarity_fn_name="dot", **options
    )


def pictures():
    noise = np.random.default_rng(0)
    return [Image.fromarray(noise.integers(0, 256, (9, 9, 3), np.uint8)) for _ in range(3)]


@pytest.fixture
def allowed(monkeypatch, tmp_path):
    """Checkpoints' code runs, and is copied below the temporary folder."""
    monkeypatch.setenv(TRUST, "1")
    modules = str(tmp_path / "modules")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", modules)
    monkeypatch.syspath_prepend(modules)


def test_words_are_the_encoders_own_vectors():
    encoder = tiny()
    speaker = SparseSpeaker(encoder)
    special = encoder.tokenizer.all_special_ids
    asked = encoder.encode_query(TEXTS, convert_to_sparse_tensor=False).numpy()
    asked[:, special], asked[1] = 0, 0
    shown = encoder.encode_document(pictures(), convert_to_sparse_tensor=False).numpy()
    shown[:, special] = 0
    assert isinstance(speaker, EncodesImages)
    np.testing.assert_allclose(speaker.encode_text(TEXTS).toarray(), asked, atol=1e-6)
    np.testing.assert_allclose(
        speaker.encode_query(TEXTS, batch_size=1).toarray(), asked, atol=1e-6
    )
    np.testing.assert_allclose(speaker.encode_image(pictures()).toarray(), shown, atol=1e-6)
    np.testing.assert_allclose(speaker.encode_document(TEXTS).toarray() * 2, asked, atol=1e-6)
    theirs = encoder.similarity(torch.tensor(asked), torch.tensor(shown)).numpy()
    ours = speaker.similarity(speaker.encode_text(TEXTS), speaker.encode_image(pictures()))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert speaker.encode_text([]).shape == speaker.encode_image([]).shape == (0, asked.shape[1])
    with pytest.raises(LexLIPError, match="one list"):
        speaker.encode_document(["dog", pictures()[0]])


def test_its_tokens_are_the_lexicon():
    speaker = SparseSpeaker(tiny(extra=3))  # rows to a round number
    size = len(speaker.encoder.tokenizer)
    assert speaker.lexicon.tokens[:5] == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert speaker.lexicon.ids.tolist() == list(range(5, size))
    assert len(speaker.lexicon.tokens) == len(set(speaker.lexicon.tokens)) == size + 3
    assert {word for word, _ in speaker.words_of(pictures()[0])} <= set(speaker.lexicon.numbers)


def test_starts_of_words_are_words_and_pieces_are_marked():
    tokenizer = byte_level_tokenizer()
    words = spelled(tokenizer)
    table = tokenizer.get_vocab()
    assert words[table["Ġdog"]] == "dog" and words[table["dog"]] == "##dog"
    assert words[table["Ġred"]] == "red" and words[table["[MASK]"]] == "[MASK]"
    assert len(set(words)) == len(words) == len(tokenizer)
    speaker = SparseSpeaker(tiny(tokenizer))
    ids = speaker.tokenizer("dog", add_special_tokens=False)["input_ids"]
    assert [speaker.lexicon.tokens[number] for number in ids] == ["dog"]


def test_a_number_without_a_token_shifts_no_other():
    class Gap:
        all_special_tokens = ("[PAD]",)

        def get_vocab(self):
            return {"[PAD]": 0, "red": 1, "dog": 3}

    assert spelled(Gap()) == ("[PAD]", "red", "[unused 2]", "dog")


def test_a_text_that_names_a_picture_stays_a_text(tmp_path):
    speaker = SparseSpeaker(tiny())
    pictures()[0].save(tmp_path / "dog.png")
    (tmp_path / "dog.txt").touch()
    plain = speaker.encode_text([str(tmp_path / "dog.txt").replace(".txt", ".xyz")]).toarray()
    named = speaker.encode_text([str(tmp_path / "dog.png")]).toarray()
    np.testing.assert_array_equal(named, plain)  # [UNK] dog [UNK], whatever the ending
    link = speaker.encode_text(["https://example.org/a.png"])  # nothing is fetched
    assert link.shape == (1, len(speaker.lexicon.tokens))


def test_a_checkpoint_opens_again_with_the_same_fingerprint(tmp_path, allowed):
    speaker = SparseSpeaker(tiny())
    folder = write(speaker.encoder, tmp_path / "splade")
    loaded = load(folder)
    assert isinstance(loaded, SparseSpeaker) and loaded.name_or_path == str(folder)
    assert loaded.fingerprint == speaker.fingerprint
    np.testing.assert_array_equal(
        loaded.encode_image(pictures()).toarray(), speaker.encode_image(pictures()).toarray()
    )
    other = tiny()
    with torch.no_grad():
        other[0].words.bias += 1
    prompted = SparseSpeaker(tiny(prompts={"query": "a ", "document": ""}))
    assert len({speaker.fingerprint, SparseSpeaker(other).fingerprint, prompted.fingerprint}) == 3


def test_foreign_code_runs_only_when_it_is_allowed(tmp_path, monkeypatch):
    monkeypatch.delenv(TRUST, raising=False)
    folder = write(tiny(), tmp_path / "splade")
    code = (folder / "tiny_splade.py").read_text()
    (folder / "tiny_splade.py").write_text(code + f"\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(LexLIPError, match=f"{TRUST}=1") as raised:
        load(folder)
    assert "\n" not in str(raised.value) and not (tmp_path / "ran").exists()


def test_encoders_of_texts_only_and_of_unnamed_numbers_are_refused(monkeypatch):
    encoder = tiny()
    monkeypatch.setattr(TinySplade, "modalities", ["text"])
    with pytest.raises(LexLIPError, match="reads no pictures"):
        SparseSpeaker(encoder)
    monkeypatch.undo()
    encoder[0].words = torch.nn.Linear(8, 4)
    with pytest.raises(LexLIPError, match="no words"):
        SparseSpeaker(encoder)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_an_index_scores_as_the_model_was_trained(similarity, tmp_path):
    encoder = tiny()
    encoder.similarity_fn_name = similarity
    speaker = SparseSpeaker(encoder)
    for number, picture in enumerate(pictures()):
        # Darker pictures have shorter vectors, so that lengths count.
        picture.point(lambda value, step=number: value // (1 + 3 * step)).save(
            tmp_path / f"{number}.png"
        )
    shown = speaker.encode_image(sorted(tmp_path.glob("*.png")))
    with Index.create(tmp_path / "pages.lex", speaker, tmp_path, engine="postings") as index:
        for text in ("red dog", "the star at night", "running"):
            asked = speaker.encode_query([text])
            found = {hit.id: hit.score for hit in index.search(text, k=3)}
            expected = speaker.similarity(asked, shown)[0]
            scores = np.array([found.get(f"{number}.png", 0) for number in range(3)])
            np.testing.assert_allclose(scores / scores.max(), expected / expected.max(), atol=0.02)
            for name, score in found.items():  # an explanation adds up
                assert sum(part.score for part in index.explain(name, text)) == score
        norms = np.linalg.norm(shown.toarray(), axis=1)
        assert norms.max() > 1.1 * norms.min()


def test_queries_may_take_another_way_than_pictures():
    """As V-SPLADE's: a weight per token for queries, a network for pages."""
    inner = tiny()
    size = len(inner.tokenizer)
    static = SparseStaticEmbedding(inner.tokenizer, torch.linspace(0.1, 1, size), frozen=True)
    router = Router.for_query_document(query_modules=[static], document_modules=[inner[0]])
    speaker = SparseSpeaker(SparseEncoder(modules=[router], similarity_fn_name="dot", device="cpu"))
    asked, shown = speaker.encode_query(["red dog"]), speaker.encode_image(pictures())
    numbers = speaker.lexicon.numbers
    weights = torch.linspace(0.1, 1, size)
    assert dict(speaker.decode(asked)[0]) == pytest.approx(
        {word: float(weights[numbers[word]]) for word in ("red", "dog")}
    )
    own = SparseSpeaker(inner)
    np.testing.assert_array_equal(shown.toarray(), own.encode_image(pictures()).toarray())
    (scores,) = speaker.similarity(asked, shown)
    for row, score in enumerate(scores):  # raw products here, as the model compares
        (shared,) = speaker.intersection(asked, shown[[row]])
        assert sum(part for _, part in shared) == pytest.approx(float(score))
    assert speaker.fingerprint != own.fingerprint


def test_commands_work_as_with_any_model(tmp_path, allowed):
    folder = write(tiny(), tmp_path / "splade")
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(pictures()):
        picture.save(tmp_path / "photos" / f"{number}.png")

    def run(*words):
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done.stdout

    index = tmp_path / "x.lex"
    assert "3 pictures" in run("index", tmp_path / "photos", "-o", index, "-m", folder)
    found = run("search", index, "running^3 - 0.5:star", "--explain")
    assert "running^64" in found and found.count(".png") == 3 and "running:" in found
    assert "1.png" in run("search", index, "--image", tmp_path / "photos" / "1.png")
    assert "running" in run("words", tmp_path / "photos" / "0.png", "-m", folder)
    table = run("explain", index, "red running", "1.png").splitlines()
    (total,) = (int(row.split()[-1]) for row in table if row.split()[:1] == ["sum"])
    parts = [row.split() for row in table if len(row.split()) == 4 and row.split()[1].isdigit()]
    assert parts and sum(int(score) for *_, score in parts) == total


def test_one_of_texts_alone_is_refused_in_a_line(tmp_path):
    words = word_tokenizer(["red", "dog"])
    static = SparseStaticEmbedding(words, torch.ones(len(words)), frozen=True)
    encoder = SparseEncoder(modules=[static], device="cpu")
    encoder.save_pretrained(str(tmp_path / "texts"), create_model_card=False)
    (tmp_path / "photos").mkdir()
    pictures()[0].save(tmp_path / "photos" / "0.png")
    done = CliRunner().invoke(
        app, ["index", str(tmp_path / "photos"), "-o", str(tmp_path / "x.lex"),
              "-m", str(tmp_path / "texts")],
    )  # fmt: skip
    (line,) = done.stderr.strip().splitlines()
    assert done.exit_code == 2 and line.endswith("texts reads no pictures: give one that does")
    assert not (tmp_path / "x.lex").exists()


def test_other_similarities_are_refused():
    encoder = tiny()
    encoder.similarity_fn_name = "euclidean"
    with pytest.raises(LexLIPError, match="euclidean"):
        SparseSpeaker(encoder)
