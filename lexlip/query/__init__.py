"""Queries: the grammar, the tree, the terms, and exact search for words of either sign."""
