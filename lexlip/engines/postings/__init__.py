"""The postings engine: immutable segments of an inverted index, searched on disk."""

from __future__ import annotations

from lexlip.engines.postings.segment import Segment

__all__ = ["Segment"]
