"""Evaluation: judgements and systems in, runs and a table out.

``bench`` measures LexLIP and baselines on the same queries, ``race`` times engines, ``studies``
ask single questions, ``metrics`` counts for all of them. The package reads checkpoints and
collections through ``lexlip`` only; no other job is imported.
"""
