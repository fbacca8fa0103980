"""Anserini's own indexer and searcher over our lines: our ids and our scores."""

from __future__ import annotations

import os
import subprocess

import pytest
from scipy.sparse import csr_array

from lexlip import Index, Query
from lexlip.engines import LuceneEngine
from lexlip.exchange import export

pytestmark = pytest.mark.java
ASKED = ("a red circle", "two blue squares in the snow", "large star beside a square")
_INDEX = "-collection JsonVectorCollection -generator DefaultLuceneDocumentGenerator -threads 1"


@pytest.fixture(scope="module")
def indexed(lucene, model, photos, tmp_path_factory):
    """An index, and Anserini's index of its export."""
    from lexlip.engines.lucene.bridge import lucene_jar
    from lexlip.engines.lucene.java import find_java

    folder = tmp_path_factory.mktemp("anserini")
    with Index.create(folder / "i.lex", model, photos) as made:
        done = export(made, folder / "vectors" / "photos.jsonl", "anserini")
        assert not done.said
    program = find_java() / "bin" / "java"
    command = [program, "-Xmx512m", "-cp", lucene_jar(), "io.anserini.index.IndexCollection"]
    command += [*_INDEX.split(), "-impact", "-pretokenized", "-input", folder / "vectors"]
    run = subprocess.run(
        [*map(str, command), "-index", str(folder / "theirs")],
        capture_output=True, text=True, env=dict(os.environ), timeout=300,
    )  # fmt: skip
    assert "Total 12 documents indexed" in run.stdout, run.stdout[-500:] + run.stderr[-500:]
    return folder


def searcher(path):
    from lexlip.engines.lucene.bridge import classes

    classes()
    import jnius

    return jnius.autoclass("io.anserini.search.SimpleImpactSearcher")(str(path))


def asked(terms):
    """Return {word: whole weight} as Java has it."""
    from lexlip.engines.lucene.bridge import classes

    classes()
    import jnius

    query, whole = classes().HashMap(), jnius.autoclass("java.lang.Integer")
    for word, weight in terms.items():
        query.put(word, whole(int(weight)))
    return query


def test_anserini_finds_what_we_find(indexed, model):
    theirs = searcher(indexed / "theirs")
    try:
        with Index.open(indexed / "i.lex", model) as ours:
            for text in ASKED:
                terms = ours.query(Query.text(text))
                hits = theirs.search(asked(dict(ours.words(terms))), 9)
                wanted = ours.search(terms, 9)
                assert [hit.docid for hit in hits] == [hit.id for hit in wanted] != []
                # Anserini subtracts a little from equal scores.
                scores = [hit.score for hit in wanted]
                assert [hit.score for hit in hits] == pytest.approx(scores, abs=1e-2)
    finally:
        theirs.close()


def test_our_own_lucene_index_is_none_of_theirs(lucene, indexed, model, tmp_path):
    """As docs/how-to/interchange.md says: ids are kept otherwise, and terms are numbers."""
    with Index.open(indexed / "i.lex", model) as made:
        engine = LuceneEngine(tmp_path / "lucene")
        for names, rows in made.engine.walk():
            engine.add(names, csr_array(rows))
        engine.commit()
        engine.close()
        terms = made.query("a red circle")
    theirs = searcher(tmp_path / "lucene")
    import jnius

    try:
        with pytest.raises(jnius.JavaException, match="SORTED_SET for field 'id'"):
            theirs.search(asked({str(term): weight for term, weight in terms.items()}), 9)
    finally:
        theirs.close()
