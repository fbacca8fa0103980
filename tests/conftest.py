"""What all tests share: no network, one thread, and models small enough to be made on the spot."""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path

# Before anything imports torch or transformers.
os.environ.update(
    HF_HUB_OFFLINE="1",
    LEXLIP_EXPORT="0",  # checkpoints that tests share stay as they are
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    TQDM_DISABLE="1",
    TRANSFORMERS_VERBOSITY="error",
)

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from PIL import Image  # noqa: E402

# pytest-randomly prints the seed of a run; no example is remembered from one run to the next.
hypothesis.settings.register_profile("lexlip", database=None, deadline=None)
hypothesis.settings.load_profile("lexlip")

CAPTIONS = (
    "a red circle above two blue squares",
    "one large green star on the left",
    "three striped triangles in the snow",
    "a small blue square beside a red circle",
    "two spotted stars at night , nothing else",
    "an empty purple cross in the middle of the sky",
    "a big yellow triangle left of one small hollow square",
    "the dark wall",
)


FULL = os.environ.get("LEXLIP_TESTS") == "full"
"""Whether tests of minutes are asked for, too."""


def pytest_collection_modifyitems(items):
    """Skip what takes minutes, unless it is asked for."""
    left = pytest.mark.skip(reason="minutes: LEXLIP_TESTS=full runs it")
    for item in items:
        if not FULL and item.get_closest_marker("full"):
            item.add_marker(left)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The file of the wheel, built from this tree."""
    from tests.support.wheel import build

    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """The wheel in an empty environment; its tests have the marks of tests/test_wheel.py."""
    from tests.support.wheel import install

    return install(wheel, tmp_path_factory.mktemp("installed") / "venv")


@pytest.fixture(scope="session", autouse=True)
def no_network():
    """Refuse every connection that leaves this machine."""

    def guarded(connect):
        def wrapped(self, address):
            local = isinstance(address, tuple) and address[0] in ("127.0.0.1", "localhost", "::1")
            if self.family != getattr(socket, "AF_UNIX", None) and not local:
                raise RuntimeError(f"a test wants to connect to {address}")
            return connect(self, address)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guarded(getattr(socket.socket, name)))
        yield


@pytest.fixture(scope="session", autouse=True)
def caches_of_the_run(tmp_path_factory):
    """Keep the user's own caches out of the tests, and the tests out of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        patch.setenv("MTEB_CACHE", str(tmp_path_factory.mktemp("mteb")))
        yield


@pytest.fixture(scope="session")
def lucene():
    """Skip where Lucene cannot run."""
    from lexlip.engines.lucene.engine import lucene_jar
    from lexlip.engines.lucene.java import find_java
    from lexlip.errors import LexLIPError

    try:
        find_java(), lucene_jar()
        import jnius_config  # noqa: F401
    except (LexLIPError, ImportError) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=["postings", pytest.param("lucene", marks=pytest.mark.java)])
def kind(request):
    """Name of each engine that lives in a folder; skips where Lucene cannot run."""
    if request.param == "lucene":
        request.getfixturevalue("lucene")
    return request.param


@pytest.fixture(scope="session")
def opensearch(tmp_path_factory):
    """A node of OpenSearch that the session shares, stopped at its end; skip where there is none.

    Its `place()` is that of a new index.
    """
    from tests.support.clusters import a_node, why_not

    pytest.importorskip("opensearchpy")
    if reason := why_not():
        pytest.skip(reason)
    with a_node(tmp_path_factory.mktemp("opensearch")) as node:
        yield node


@pytest.fixture(scope="session")
def three_nodes(tmp_path_factory):
    """A cluster of three nodes of OpenSearch, which may be killed and started again."""
    from eval.load.cluster import SHORT_LIVED, Cluster
    from tests.support.clusters import home

    pytest.importorskip("opensearchpy")
    if not (home() / "run.py").is_file():
        pytest.skip(f"no OpenSearch to start: no {home() / 'run.py'}")
    folder = tmp_path_factory.mktemp("three")
    with Cluster(folder, 3, SHORT_LIVED, "256m", home()) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def milvus(tmp_path_factory):
    """Milvus for the session: the server of LEXLIP_MILVUS_URI, or a file; skip where none is.

    Its `place()` is that of a new index.
    """
    from tests.support.milvus import a_milvus, why_not

    if reason := why_not():
        pytest.skip(reason)
    with a_milvus(tmp_path_factory.mktemp("milvus")) as found:
        yield found


@pytest.fixture(scope="session")
def captions() -> tuple[str, ...]:
    """Training captions of the tiny models; their words are the vocabulary."""
    return CAPTIONS


@pytest.fixture(scope="session")
def tiny_settings():
    """Settings of a model with two layers of width 32 and pictures of 32 pixels."""
    from pretrain.settings import Model, Settings

    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape["intermediate_size"] = 64
    model = Model(
        vision={"model_type": "vit", "patch_size": 8, **shape},
        text={"model_type": "bert", "max_position_embeddings": 32, **shape},
        image_size=32,
        patch_grid=0,
        neck_layers=1,
        neck_heads=2,
        max_text_length=16,
        dense_size=16,
    )
    return Settings(seed=0, precision="no", model=model)


@pytest.fixture(scope="session")
def make_model(tiny_settings):
    """Return a function: build a fresh tiny LexLIP, with changes to its ``[model]`` settings."""
    from lexlip.models.lexlip import LexLIP
    from pretrain.build import build

    def make(seed: int = 0, kind=LexLIP, **changes):
        model = replace(tiny_settings.model, **changes)
        return build(replace(tiny_settings, seed=seed, model=model), CAPTIONS, kind).eval()

    return make


@pytest.fixture(scope="session")
def model(make_model):
    """A tiny LexLIP with random weights, louder than fresh ones so that pictures differ and half
    of the words are active; for reading only.
    """
    import torch

    model = make_model()
    with torch.no_grad():
        for parameter in model.vision.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
        for head in (model.text_head, model.image_head):
            head.bias.add_(1.0)
    return model


@pytest.fixture(scope="session")
def checkpoint(model, tmp_path_factory) -> Path:
    """The folder of that model."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    model.save_pretrained(folder)
    return folder


def noise(seed: int, size: int = 40) -> Image.Image:
    """A picture of coarse random colours: no two alike."""
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((size, size), Image.Resampling.NEAREST)


@pytest.fixture(scope="session")
def images() -> list[Image.Image]:
    """Twelve different pictures."""
    return [noise(seed) for seed in range(12)]


@pytest.fixture(scope="session")
def photos(images, tmp_path_factory) -> Path:
    """A folder of the same pictures, ``00.png`` to ``11.png``, and a broken one."""
    folder = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(images):
        image.save(folder / f"{number:02}.png")
    (folder / "broken.png").write_bytes((folder / "00.png").read_bytes()[:60])
    return folder


@pytest.fixture(scope="session")
def model_with_heads(make_model):
    """A tiny LexLIP with heads for rerankers, loud enough that pictures differ; to be read."""
    import torch

    model = make_model()
    model.add_heads(token_size=8, gaussian_size=6, layers=1)
    with torch.no_grad():
        for parameter in (*model.vision.parameters(), *model.heads.parameters()):
            if parameter.ndim > 1:
                parameter.mul_(5)
        for head in (model.text_head, model.image_head):
            head.bias.add_(1.0)
    model.config.naaf_threshold = 0.1
    return model.eval()


@pytest.fixture(scope="session")
def word_table(model):
    """A query table of the tiny model in which each word asks for itself."""
    from scipy.sparse import csr_array
    from tokenizers import Tokenizer

    from lexlip.models.query_table import QueryTable

    lexicon = model.lexicon
    rows = np.zeros((len(lexicon.tokens), len(lexicon)))
    rows[lexicon.ids, np.arange(len(lexicon))] = 1
    tokenizer = Tokenizer.from_str(model.processor.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    none = np.zeros(0, np.int64)
    return QueryTable(tokenizer, lexicon, csr_array(rows), none, model.fingerprint, 16)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> str:
    """The config of a training that takes seconds: see `tests.support.tiny_run`."""
    from tests.support.tiny_run import write_config

    return str(write_config(tmp_path_factory.mktemp("tiny-run")))


@pytest.fixture(scope="session")
def demo_home(checkpoint, model, model_with_heads, word_table, photos, tmp_path_factory):
    """What `make demo` and a user would have, of tiny models: checkpoints, pictures, an index;
    to be read or copied.
    """
    from lexlip import Index
    from lexlip.build.encode import encode_pictures
    from lexlip.build.encoded_parts import Encoded
    from lexlip.build.recipe import Recipe
    from lexlip.data.collection import load_collection

    folder = tmp_path_factory.mktemp("docs")
    runs = folder / "runs" / "demo"
    shutil.copytree(checkpoint, runs / "stage2")
    word_table.save_pretrained(runs / "stage2")
    model_with_heads.save_pretrained(runs / "heads")
    shutil.copytree(photos, folder / "photos")
    shutil.copy(photos / "00.png", folder / "photo.jpg")
    Index.create(
        runs / "index", model, photos, engine="postings", checkpoint=runs / "stage2"
    ).close()
    source = load_collection(photos)
    with Encoded.plan(folder / "photos.parts", model, source, Recipe()) as encoded:
        encoded.write(0, encode_pictures(model, source, range(len(source))))
    return folder
