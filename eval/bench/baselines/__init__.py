"""Baselines: BM25 over human captions, dense dual encoders, CLIP."""
