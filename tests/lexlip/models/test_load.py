"""Choice of a speaker's class, and the line for models without words."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lexlip import LexLIP
from lexlip.cli import app
from lexlip.errors import LexLIPError
from lexlip.models import load
from lexlip.models.lexical.lexicalise import lexicalise
from lexlip.models.lexical.speaker import LexicalSpeaker
from tests.support.duals import small_dual

OLD = Path(__file__).parents[2] / "fixtures/before_packages/clip"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return small_dual("clip", tmp_path_factory.mktemp("a folder") / "my clip")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("my photos")
    noise = np.random.default_rng(0)
    for number in range(3):
        values = noise.integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(values).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("open_it", [load, LexLIP.from_pretrained])
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_a_dual_encoder_is_refused_with_the_command_that_gives_it_words(open_it, family, tmp_path):
    folder = small_dual(family, tmp_path / family)
    with pytest.raises(LexLIPError) as raised:
        open_it(folder)
    line = str(raised.value)
    assert f"lexlip lexicalise PICTURES --clip {folder} -o {family}-words" in line
    assert "\n" not in line


@pytest.mark.parametrize("old", [False, True])
def test_the_command_of_indexing_runs_as_it_is_printed(old, clip, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip = OLD if old else clip
    run = CliRunner()
    index = ["index", str(photos), "-o", "photos.lex", "-m"]
    refused = run.invoke(app, [*index, str(clip)])
    assert refused.exit_code == 2 and not (tmp_path / "photos.lex").exists()
    line = " ".join(refused.stderr.split())
    command = line[line.index("lexlip lexicalise") : line.index(", then")]
    arguments = shlex.split(command)[1:]
    assert str(photos) in arguments and str(clip) in arguments
    (tmp_path / "words.txt").write_text("red\ndog\nnight\n")
    made = run.invoke(app, [*arguments, "--words", "words.txt"])
    assert made.exit_code == 0, made.output
    assert run.invoke(app, [*index, arguments[-1]]).exit_code == 0
    found = run.invoke(app, ["search", "photos.lex", "red", "-m", arguments[-1]])
    assert found.exit_code == 0 and ".png" in found.stdout


def test_a_dual_encoder_in_words_is_loaded(clip, photos, tmp_path):
    pictures = sorted(photos.iterdir())
    lexicalise(clip, pictures, ["red", "dog", "night"]).save_pretrained(tmp_path / "w")
    speaker = load(tmp_path / "w")
    assert isinstance(speaker, LexicalSpeaker)
    assert speaker.words_of("red") == LexicalSpeaker.from_pretrained(tmp_path / "w").words_of("red")


@pytest.mark.parametrize("kind", ["siglip2-naflex", "chinese-clip", "layer", "old"])
def test_every_kind_of_dual_encoder_gets_words_and_keeps_them(kind, photos, tmp_path):
    if kind == "layer":
        from tests.support.sentence_folders import with_a_layer

        folder = with_a_layer(tmp_path)
    else:
        folder = OLD if kind == "old" else small_dual(kind, tmp_path / kind)
    pictures = sorted(photos.iterdir())
    made = lexicalise(folder, pictures, ["red", "dog", "night"], ["a dog", "a red star", "two"])
    made.save_pretrained(tmp_path / "words")
    loaded = load(tmp_path / "words")
    assert loaded.fingerprint == made.fingerprint
    np.testing.assert_allclose(
        loaded.vectors_of(["red", "a dog"]), made.vectors_of(["red", "a dog"]), atol=1e-3
    )
    np.testing.assert_allclose(
        loaded.encode_image(pictures).toarray(), made.encode_image(pictures).toarray(), atol=1e-3
    )


@pytest.mark.parametrize("content", [None, "{}", "nothing"])
def test_anything_else_is_one_line(content, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(LexLIPError) as raised:
        load(tmp_path)
    assert "\n" not in str(raised.value)
