"""The second stage: how well a few candidates fit a query, from dense views of both.

`rerankers` scores candidates of a forward store, `kernel` computes the late interaction of one
query from stored codes, `fuse` joins the scores to those of the first stage, and `stage` reorders
the hits of an index. The differentiable formulas are in `lexlip.models.scores`. Importing this
package starts no torch.
"""
