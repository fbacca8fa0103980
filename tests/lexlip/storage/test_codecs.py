"""Token codecs: bounds that were proved, orders that were measured, and packing byte by byte."""

from __future__ import annotations

import numpy as np
import pytest

from lexlip.errors import LexLIPError
from lexlip.storage import codecs
from lexlip.storage.codecs import CODECS, Residual, codec_type


class Residual1(Residual):
    """One bit a component: too coarse to offer, good for the order of errors."""

    BITS = 1


def unit(array):
    return (array / np.linalg.norm(array, axis=-1, keepdims=True)).astype(np.float32)


def clustered(images, positions, d, centres, seed=0, queries=150, words=6):
    """Tokens [images, positions, d] around centres, and queries of noisy patches of one image."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((images, positions, d), np.float32)
    middles = unit(rng.standard_normal((centres, d)))
    chosen = middles[rng.integers(0, centres, (images, positions))]
    tokens = unit(chosen + 0.5 * unit(noise))
    right = rng.integers(0, images, queries)
    patches = tokens[right[:, None], rng.integers(0, positions, (queries, words))]
    return tokens, unit(patches + 0.5 * unit(rng.standard_normal(patches.shape))), right


def scores(tokens, queries):
    """Mean over words of the best patch: [queries, images]."""
    flat = tokens.reshape(-1, tokens.shape[-1])
    best = (queries.reshape(-1, flat.shape[1]) @ flat.T).reshape(-1, *tokens.shape[:2]).max(2)
    return best.reshape(*queries.shape[:2], -1).mean(1)


def overlap(left, right, k=10):
    tops = [np.argsort(-s, axis=1, kind="stable")[:, :k] for s in (left, right)]
    return np.mean([len(set(a) & set(b)) / k for a, b in zip(*tops, strict=True)])


def there_and_back(codec, tokens):
    rows = codec.encode(tokens.reshape(-1, tokens.shape[-1]))
    return codec.decode(rows).reshape(tokens.shape)


@pytest.fixture(scope="module")
def wide():
    """The set that the codecs were chosen with: 400 images of 49 tokens around 256 centres."""
    return clustered(400, 49, 256, 256)


@pytest.fixture(scope="module")
def narrow():
    return clustered(125, 24, 64, 128)


@pytest.mark.parametrize("name", ["float16", "int8", "int8-token"])
def test_eight_bits_find_the_same_ten(wide, name):
    tokens, queries, right = wide
    exact = scores(tokens, queries)
    assert (exact.argmax(1) == right).mean() == 1
    found = scores(there_and_back(codec_type(name).fit(tokens.reshape(-1, 256)), tokens), queries)
    assert (found.argmax(1) == right).all()
    assert overlap(exact, found) >= 0.98
    assert np.abs(found - exact).max() < 0.002


def test_more_bits_lie_nearer(narrow):
    tokens, queries, right = narrow
    exact, flat = scores(tokens, queries), tokens.reshape(-1, 64)
    errors, overlaps = [], []
    for kind in (Residual1, codecs.Residual2, codecs.Residual4):
        back = there_and_back(kind.fit(flat), tokens)
        assert np.allclose(np.linalg.norm(back, axis=-1), 1, atol=1e-5)
        found = scores(back, queries)
        assert (found.argmax(1) == right).all()
        errors.append(np.abs(found - exact).max())
        overlaps.append(overlap(exact, found))
    assert errors == sorted(errors, reverse=True) and errors[2] < errors[0] / 3
    assert overlaps == sorted(overlaps) and overlaps[2] > 0.8


@pytest.mark.parametrize("d", [4, 64, 255])
def test_an_inner_product_is_off_by_less_than_the_bound(d):
    rng = np.random.default_rng(d)
    tokens, queries = unit(rng.standard_normal((500, d))), unit(rng.standard_normal((50, d)))
    tokens[:d] = np.eye(d)  # as long in one direction as a unit vector can be
    for name in ("int8", "int8-token"):
        codec = codec_type(name).fit(tokens)
        rows = codec.encode(tokens)
        codes, scales = codec.codes(rows)
        assert codes is rows["codes"] and codes.dtype == np.int8 and scales.dtype == np.float32
        back = codec.decode(rows)
        assert np.array_equal(back, codes * scales[:, None])
        off = np.abs(queries @ (tokens - back).T).max(0)
        assert (off <= np.sqrt(d) * scales / 2 + 1e-6).all()
        assert (np.abs(tokens - back).max(1) <= scales / 2 + 1e-6).all()


def test_what_few_tokens_did_not_show_still_fits():
    flat = np.full((1, 256), 1 / 16, np.float32)
    codec = codec_type("int8").fit(flat)
    tokens = unit(np.random.default_rng(0).standard_normal((2000, 256)))
    back = codec.decode(codec.encode(tokens))
    assert np.abs(back - tokens).max() <= codec.parameters["scale"][0] / 2 + 1e-6
    assert codec.parameters["scale"][0] == pytest.approx(5 / 16 / 127)
    # Beyond that components are cut off, not wrapped around.
    assert codec.encode(-np.eye(256, dtype=np.float32))["codes"].min() == -127
    assert codec_type("int8").fit(np.zeros((0, 4), np.float32)).parameters["scale"] * 127 == 1


def test_residuals_are_packed_as_described(narrow):
    """Against a loop over components that knows nothing but the parameters."""
    tokens = narrow[0].reshape(-1, 64)[:40]
    for kind in (Residual1, codecs.Residual2, codecs.Residual4):
        codec, bits = kind.fit(narrow[0].reshape(-1, 64)[:2500]), kind.BITS
        centroids, cutoffs, weights = (codec.parameters[name] for name in kind.PARAMETERS)
        assert len(centroids) == 512 and len(cutoffs) + 1 == len(weights) == 2**bits
        assert np.allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-5)
        assert (np.diff(weights) > 0).all() and (np.diff(cutoffs) > 0).all()
        rows = codec.encode(tokens)
        assert rows["residuals"].shape == (40, 64 * bits // 8)
        back = codec.decode(rows)
        for number, token in enumerate(tokens):
            nearest = int(np.argmax(centroids @ token))
            assert rows["centroids"][number, 0] == nearest
            whole = int.from_bytes(rows["residuals"][number].tobytes(), "little")
            rebuilt = centroids[nearest].copy()
            for i in range(64):
                level = whole >> (bits * i) & (2**bits - 1)
                assert level == sum(float(token[i] - centroids[nearest, i]) > c for c in cutoffs)
                rebuilt[i] += weights[level]
            assert np.allclose(back[number], unit(rebuilt), atol=1e-6)


def test_new_tokens_fill_the_buckets_equally(narrow):
    tokens = narrow[0].reshape(-1, 64)
    packed = codecs.Residual2.fit(tokens[:2000]).encode(tokens[2000:])["residuals"]
    levels = packed[..., None] >> np.arange(0, 8, 2) & 3
    assert np.allclose(np.bincount(levels.ravel()) / levels.size, 0.25, atol=0.03)


def test_what_was_learned_depends_on_the_tokens_alone(narrow):
    tokens = narrow[0].reshape(-1, 64)[:1000]
    for name, kind in CODECS.items():
        np.random.seed(1)
        first = kind.fit(tokens)
        np.random.seed(2)
        second = kind.fit(tokens)
        again = codec_type(name)(first.parameters)  # as it is read from a disk
        for codec in (second, again):
            for field, rows in first.encode(tokens).items():
                assert np.array_equal(rows, codec.encode(tokens)[field])


def test_centroids_come_to_lie_among_their_tokens(narrow):
    sample = np.random.default_rng(0).permutation(narrow[0].reshape(-1, 64))
    start, end = sample[:100], codecs._k_means(sample, 100)
    near = [(sample @ c.T).max(1).mean() for c in (start, end)]
    assert near[1] > near[0] + 0.05


@pytest.mark.parametrize("name", CODECS)
def test_rows_may_have_any_number_of_dimensions(narrow, name):
    tokens = narrow[0][:6, :5]
    codec = codec_type(name).fit(narrow[0][:50].reshape(-1, 64))
    rows = codec.encode(tokens.reshape(-1, 64))
    deep = {field: array.reshape(6, 5, -1) for field, array in rows.items()}
    assert np.array_equal(codec.decode(deep), codec.decode(rows).reshape(6, 5, 64))
    codes, scales = codec.codes(deep)
    assert codes.shape == (6, 5, 64) and scales.shape == (6, 5)
    assert (np.abs(codes * scales[..., None] - codec.decode(deep)).max(-1) <= 0.51 * scales).all()
    for empty in (codec.encode(tokens[0, :0]), {f: a[:, :0] for f, a in deep.items()}):
        assert codec.decode(empty).size == codec.codes(empty)[0].size == 0
        assert codec.decode(empty).shape[-1] == 64
    nothing = codec.encode(np.zeros((1, 64), np.float32))
    assert np.isfinite(codec.decode(nothing)).all() and np.isfinite(codec.codes(nothing)[1]).all()


def test_bytes_a_token(narrow):
    sample = unit(np.random.default_rng(0).standard_normal((64, 256)))
    encoded = {name: kind.fit(sample).encode(sample[:1]) for name, kind in CODECS.items()}
    sizes = {name: sum(a.nbytes for a in rows.values()) for name, rows in encoded.items()}
    assert sizes == {
        "int8": 256, "int8-token": 258, "residual4": 130, "residual2": 66, "float16": 512
    }  # fmt: skip


def test_what_cannot_be_coded_is_said():
    with pytest.raises(LexLIPError, match="no codec 'int7': choose one of int8"):
        codec_type("int7")
    with pytest.raises(LexLIPError, match="divisible by 4; these are 5 of width 6: choose int8"):
        codec_type("residual2").fit(np.ones((5, 6), np.float32))
    with pytest.raises(LexLIPError, match="these are 0 of width 8"):
        codec_type("residual4").fit(np.ones((0, 8), np.float32))
    one = codec_type("residual4").fit(np.eye(8, dtype=np.float32)[:1])
    assert np.allclose(there_and_back(one, np.eye(8, dtype=np.float32)[:1]), np.eye(8)[:1])
