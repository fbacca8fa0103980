"""The second stage: how well a few candidates fit a query, from dense views of both.

`rerankers` scores the candidates, with the compiled `kernel` where it can and with the formulas of
`lexlip.models.scores` elsewhere; `fuse` joins both stages, and `stage` does so for an index.
`rerankers.RERANKERS` names what ``Index.search(rerank=...)`` takes. Importing this package loads no
torch; the rerankers filip (of 8-bit codes) and csd never do.
"""
