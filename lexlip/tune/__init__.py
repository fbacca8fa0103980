"""Measured trade-offs of an index."""
