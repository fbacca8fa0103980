"""Scores of pairs, in torch: late interaction, Gaussians and NAAF, all pairs at once.

Training differentiates them. At query time `lexlip.rerank.rerankers` calls `arrays`, numpy in and
numpy out.
"""
