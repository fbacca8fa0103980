"""Measurements of an index: its trade-offs, and other systems beside it."""
