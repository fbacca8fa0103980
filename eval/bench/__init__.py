"""The retrieval benchmark: LexLIP beside a dense model, CLIP and BM25."""
