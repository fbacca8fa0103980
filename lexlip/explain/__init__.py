"""Explanations: the words of a hit, and where they are in the picture."""
