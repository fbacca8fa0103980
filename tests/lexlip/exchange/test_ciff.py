"""CIFF against protocol buffers' own library, which reads and writes the published format."""

from __future__ import annotations

import gzip
import io
import tracemalloc

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from lexlip.errors import LexLIPError
from lexlip.exchange import ciff, import_vectors
from lexlip.exchange.documents import Documents

_KINDS = {"int32": 5, "int64": 3, "double": 1, "string": 9}
_MESSAGES = {
    "Header": "int32 version, int32 num_postings_lists, int32 num_doc_records, "
    "int32 total_postings_lists, int32 total_docs, int64 total_terms_in_collection, "
    "double average_doclength, string description",
    "Posting": "int32 docid, int32 tf",
    "PostingsList": "string term, int64 df, int64 cf, Posting postings",
    "DocRecord": "int32 docid, string collection_docid, int32 doclength",
}


def _types():
    """The messages of CommonIndexFileFormat.proto, version 1."""
    file = descriptor_pb2.FileDescriptorProto(name="ciff.proto", package="ciff", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field in enumerate(fields.split(", "), 1):
            kind, called = field.split()
            if kind == "Posting":
                message.field.add(
                    name=called, number=number, type=11, label=3, type_name=".ciff.Posting"
                )
            else:
                message.field.add(name=called, number=number, type=_KINDS[kind], label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"ciff.{name}"))
        for name in _MESSAGES
    }


TYPES = _types()


def read_all(data):
    """Return the header, the postings lists and the documents of a file."""
    file = io.BytesIO(data)

    def message(name):
        size = shift = 0
        while True:
            byte = file.read(1)[0]
            size, shift = size | (byte & 127) << shift, shift + 7
            if byte < 128:
                return TYPES[name].FromString(file.read(size))

    header = message("Header")
    lists = [message("PostingsList") for _ in range(header.num_postings_lists)]
    documents = [message("DocRecord") for _ in range(header.num_doc_records)]
    assert not file.read()
    return header, lists, documents


def written(path, rows, words, packed=False):
    ids = [f"{number:03}.jpg" for number in range(rows.shape[0])]
    count = ciff.write(path, [Documents(ids, rows, [{}] * len(ids))], words, "about", packed)
    assert count == len(ids)
    return ids, gzip.decompress(path.read_bytes()) if packed else path.read_bytes()


@given(st.integers(0, 9), st.sampled_from([0.05, 0.5, 1.0]), st.sampled_from([1, 40, 400]))
@settings(max_examples=20)
def test_what_is_written_is_what_protocol_buffers_read(tmp_path_factory, seed, density, count):
    rng = np.random.default_rng(seed)
    dense = rng.integers(1, 256, (count, 7)) * (rng.random((count, 7)) < density)
    words = ["b", "a", "ü", "hot dog", "##x", "c", "d"]
    path = tmp_path_factory.mktemp("ciff") / "v.ciff"
    ids, data = written(path, csr_array(dense), words)
    header, lists, documents = read_all(data)
    assert (header.version, header.total_docs, header.description) == (1, count, "about")
    assert header.total_terms_in_collection == dense.sum()
    assert header.average_doclength == pytest.approx(dense.sum() / count)
    assert [one.term for one in lists] == sorted(
        word for word, held in zip(words, dense.any(0), strict=True) if held
    )
    again = np.zeros_like(dense)
    for one in lists:
        places = np.cumsum([posting.docid for posting in one.postings])
        again[places, words.index(one.term)] = [posting.tf for posting in one.postings]
        assert (one.df, one.cf) == (len(places), dense[:, words.index(one.term)].sum())
    assert (again == dense).all()
    assert [(it.docid, it.collection_docid, it.doclength) for it in documents] == [
        (number, id, dense[number].sum()) for number, id in enumerate(ids)
    ]
    reader = ciff.Reader(path)
    mine = {word: (numbers.tolist(), tf.tolist()) for word, numbers, tf in reader.postings()}
    assert mine == {
        one.term: (
            np.cumsum([p.docid for p in one.postings]).tolist(), [p.tf for p in one.postings]
        )
        for one in lists
    }  # fmt: skip
    assert dict(reader.ids()) == dict(enumerate(ids))
    reader.close()


def test_what_protocol_buffers_write_is_read(tmp_path):
    """Zeros are left out there, and numbers may be large."""
    lists = {"a": [(0, 3), (2, 70_000), (2**27, 1)], "b": [(5, 255)], "c": [(0, 1)], "d": []}
    path, out = tmp_path / "v.ciff", io.BytesIO()
    messages = [TYPES["Header"](version=1, num_postings_lists=4, num_doc_records=1)]
    for word, pairs in lists.items():
        postings = [TYPES["Posting"](docid=gap, tf=tf) for gap, tf in pairs]
        messages.append(TYPES["PostingsList"](term=word, df=len(pairs), postings=postings))
    messages.append(TYPES["DocRecord"](docid=0, collection_docid="x y.jpg", doclength=9))
    for message in messages:
        data = message.SerializeToString()
        out.write(ciff.varint(len(data)) + data)
    path.write_bytes(out.getvalue())
    reader = ciff.Reader(path)
    found = {word: (numbers.tolist(), tf.tolist()) for word, numbers, tf in reader.postings()}
    assert found == {
        "a": ([0, 2, 2 + 2**27], [3, 70_000, 1]), "b": ([5], [255]), "c": ([0], [1]), "d": ([], []),
    }  # fmt: skip
    assert list(reader.ids()) == [(0, "x y.jpg")]
    reader.close()


def test_damage_is_one_line(tmp_path):
    path = tmp_path / "v.ciff"
    _, data = written(path, csr_array(np.full((30, 3), 200)), ["a", "b", "c"])
    for wrong in (b"", b"\x00", data[:10], data[: len(data) // 2], data[:-1], b"PK\x03\x04" + data):
        path.write_bytes(wrong)
        with pytest.raises(LexLIPError, match="no CIFF file, or damaged"):
            reader = ciff.Reader(path)
            list(reader.postings()), list(reader.ids())
    rng = np.random.default_rng(0)
    for _ in range(300):
        spoilt = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            spoilt[place] = rng.integers(256)
        path.write_bytes(bytes(spoilt))
        try:
            reader = ciff.Reader(path)
            list(reader.postings()), list(reader.ids())
        except LexLIPError:
            pass


def file_of(path, lists, documents=(b"a", b"b"), terms=None, count=None, more=b""):
    """Write a file of postings lists, each its fields in protocol buffers."""
    header = TYPES["Header"](
        version=1,
        num_postings_lists=len(lists) if terms is None else terms,
        num_doc_records=len(documents) if count is None else count,
    )
    messages = [header.SerializeToString(), *lists]
    messages += [
        TYPES["DocRecord"](docid=n, collection_docid=id.decode()).SerializeToString()
        for n, id in enumerate(documents)
    ]
    path.write_bytes(b"".join(ciff.varint(len(it)) + it for it in messages) + more)
    return path


def listed(word, *pairs, df=None):
    postings = [TYPES["Posting"](docid=gap, tf=tf) for gap, tf in pairs]
    count = len(pairs) if df is None else df
    return TYPES["PostingsList"](term=word, df=count, postings=postings).SerializeToString()


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("wrong", [{"terms": 2**31 - 1}, {"count": 10**9}, {"count": -1}])
def test_counts_beyond_the_file_take_no_memory(tmp_path, wrong, suffix, no_flush):
    path = file_of(tmp_path / "v.ciff", [listed("red", (0, 3), (1, 2))], **wrong)
    if suffix:
        packed = gzip.compress(path.read_bytes())
        path = tmp_path / "v.ciff.gz"
        path.write_bytes(packed)
    tracemalloc.start()
    with pytest.raises(LexLIPError, match="damaged: (it ends early|the number -1)$"):
        import_vectors(tmp_path / "i.lex", path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    assert not (tmp_path / "i.lex").exists()


@pytest.mark.parametrize(
    ("lists", "more", "said"),
    [
        ([listed("red", (0, 3), (0, 3))], b"", "'red' has a document twice"),
        ([listed("red", (0, 3)), listed("red", (1, 3))], b"", "the term 'red' comes twice"),
        ([listed("red", (0, 3), df=2)], b"", "'red' has 1 postings, and says 2"),
        ([listed("red", (0, 3))], b"x", "it goes on after its end"),
        ([listed("red", (0, -3))], b"", "the number -3"),
        ([listed("red", (1, 3), (-1, 3))], b"", "the number -1"),
        ([b"\x0a\x03red\x10\x01\x22\x06\x10\xff\xff\xff\xff\x7f"], b"", "more than 31 bits"),
        ([listed("", (0, 3))], b"", "has an empty word"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path, lists, more, said, no_flush):
    path = file_of(tmp_path / "v.ciff", lists, more=more)
    with pytest.raises(LexLIPError, match=said):
        import_vectors(tmp_path / "i.lex", path, skip_wrong=True)
    assert [it.name for it in tmp_path.iterdir()] == ["v.ciff"]


def test_fields_may_come_in_any_order(tmp_path):
    path = file_of(tmp_path / "v.ciff", [b"\x22\x04\x08\x01\x10\x05\x10\x01\x0a\x03red"])
    reader = ciff.Reader(path)
    ((word, documents, impacts),) = reader.postings()
    assert (word, documents.tolist(), impacts.tolist()) == ("red", [1], [5])
    reader.close()
