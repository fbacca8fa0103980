"""The page in a real browser, from a real server, over a real index.

The model of the index learned in some seconds to say the grounds and colours of scenes, so that
words, scores and lit patches are those of a model and not of a stand-in.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
import torch

from lexlip import Index, LexLIP
from lexlip.data.scenes import make_scenes
from tests.support.browsing import CHROMIUM, best
from tests.support.scenes import true_words

PICTURES = 70
STEPS = 120


# What is served


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of scenes."""
    folder = tmp_path_factory.mktemp("page") / "scenes"
    folder.mkdir()
    for scene in make_scenes(PICTURES, seed=5, size=96):
        scene.draw().save(folder / f"{scene.id[-3:]}.png")
    return folder


@pytest.fixture(scope="session")
def trained(tiny_settings, pictures):
    """A checkpoint: texts say their own words, pictures the words that a small neck learned."""
    from pretrain.build import build

    scenes = make_scenes(300, seed=6, size=32)
    texts = [caption.text for scene in scenes for caption in scene.captions]
    model = build(tiny_settings, texts, LexLIP).eval()
    lexicon = [model.lexicon.tokens[i] for i in model.lexicon_ids]
    true = [true_words(scene) for scene in scenes]
    wanted = torch.tensor([[float(word in words) for word in lexicon] for words in true])
    with torch.no_grad():
        model.text_head.bias.fill_(-9)  # what is left of a text is `own_word_boost`
        features = model.vision.features(model.processor.pixels([s.draw() for s in scenes]))
    learning = [*model.vision.neck.parameters(), *model.image_head.parameters()]
    optimiser = torch.optim.AdamW(learning, 5e-3)
    order = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = 5e-3 * (1 - step / STEPS)
        batch = torch.randint(0, len(scenes), (32,), generator=order)
        said = model.pool_image(features[batch])[0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(said, wanted[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    folder = pictures.parent / "checkpoint"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def index_path(trained, pictures):
    """The index of these pictures."""
    path = pictures.parent / "scenes.lex"
    Index.create(path, LexLIP.from_pretrained(trained), pictures, engine="postings").close()
    return path


@pytest.fixture(scope="package")
def index(index_path):
    """The same, opened beside the server: what the page has to say is read here."""
    with Index.open(index_path) as index:
        yield index


@pytest.fixture(scope="package")
def server(index_path):
    """The address of ``lexlip serve``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lexlip.cli", "serve", index_path, "--port", "0"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    line = process.stdout.readline()
    assert (found := re.search(r"http://\S+", line)), line
    yield found[0]
    process.terminate()
    process.wait(20)
    process.stdout.close()


@contextmanager
def served(index_path, grow=None, **settings):
    """Serve an index in a thread, and yield the address."""
    import uvicorn

    from lexlip.server import Settings, create_app

    app = create_app(index_path, settings=Settings(**settings), grow=grow)
    running = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        running.should_exit = True
        thread.join(20)


@pytest.fixture
def guarded(index_path):
    """The address of a server with an API key that may not be changed."""
    with served(index_path, api_key="open sesame", read_only=True) as address:
        yield address


@pytest.fixture
def captioned(index_path, index, pictures, tmp_path):
    """The address of a server that has captions: BM25 finds LexLIP's best twelve in reverse."""
    folder = shutil.copytree(pictures, tmp_path / "captioned")
    backwards = enumerate(best(index, "red snow")[11::-1])
    rows = [f"{id},red snow{' wall' * number}" for number, id in backwards]
    (folder / "metadata.csv").write_text("\n".join(["file_name,caption", *rows]))
    with served(index_path, pictures=str(folder)) as address:
        yield address


# Who looks at it


@pytest.fixture(scope="package")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def complaints():
    """What browsers wrote into their consoles, and what they asked of other machines."""
    return []


@pytest.fixture
def visit(browser, server, complaints):
    """Return a function: open the page at an address; the test fails on any complaint."""
    contexts = []

    def open_page(query="", server=server, **options):
        options = {"viewport": {"width": 1240, "height": 820}, **options}
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda said: said.type in ("error", "warning") and
                complaints.append(said.text))  # fmt: skip
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith((server, "blob:", "data:")) or
                complaints.append(f"asked {request.url}"))  # fmt: skip
        page.goto(f"{server}/{query and '?'}{query and urlencode(query)}")
        page.get_by_role("searchbox").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def keep(tmp_path_factory):
    """Return a function: write a screenshot to $LEXLIP_ARTEFACTS, or where pytest writes."""
    folder = Path(os.environ.get("LEXLIP_ARTEFACTS") or tmp_path_factory.mktemp("shots"))
    folder.mkdir(parents=True, exist_ok=True)

    def shoot(page, name):
        page.wait_for_timeout(300)  # tiles glide for so long
        page.screenshot(path=folder / f"page-{name}.png")

    return shoot
