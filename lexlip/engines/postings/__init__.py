"""Postings on disk: one immutable segment of an inverted index, searched where it lies."""

from __future__ import annotations

from lexlip.engines.postings.segment import Segment

__all__ = ["Segment"]
