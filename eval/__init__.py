"""The last job: judgements and systems in, runs and a table out.

``metrics`` counts, ``systems`` and ``baselines`` search, ``benchmark`` runs them all over the
same queries and ``report`` prints what came out. The package reads checkpoints and collections
through ``lexlip`` only; no other job is imported.
"""
