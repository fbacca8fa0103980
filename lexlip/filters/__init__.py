"""Metadata filters: conditions on columns of documents."""
