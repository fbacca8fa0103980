"""The second stage: how well a few candidates fit a query, from dense views of both.

`late_interaction` (FILIP), `gaussian` (PCME), `naaf` and `scan` score batches of tensors, all pairs
at once; `late_scores` is the fast way from stored codes to the late interaction of one query;
`fuse` joins the result to the first stage. `rerankers.RERANKERS` names what
``Index.search(rerank=...)`` takes. Importing this package starts no torch.
"""
