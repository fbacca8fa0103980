"""Other systems, side by side with an index."""
