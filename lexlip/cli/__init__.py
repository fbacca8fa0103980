"""The command line: ``lexlip index``, ``search``, ``words`` and what else there is."""

# In the order in which `lexlip --help` lists their commands.
from lexlip.cli import (
    comparing,
    demo,
    doctor,
    exchanging,
    explaining,
    indexing,
    lexicalise,
    searching,
    serve,
    tuning,
)  # isort: skip
from lexlip.cli.app import app

__all__ = [
    "app", "comparing", "demo", "doctor", "exchanging", "explaining", "indexing", "lexicalise",
    "searching", "serve", "tuning",
]  # fmt: skip
