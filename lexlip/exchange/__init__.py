"""Interchange: vectors to and from other programs.

`export` writes the documents of an index as JSON lines of Anserini, as CIFF, as a numpy archive, or
as bodies for OpenSearch. `import_vectors` makes an index of the first three.
"""

from lexlip.exchange.export import Exported, export
from lexlip.exchange.importing import Imported, import_vectors

__all__ = ["Exported", "Imported", "export", "import_vectors"]
