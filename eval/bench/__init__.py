"""The retrieval benchmark: LexLIP, a dense dual encoder, CLIP and BM25."""
