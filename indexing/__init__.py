"""Indexing: a checkpoint and a collection in, an index out."""
