"""Fuzzing: inputs that nobody wrote, for every place where lexlip reads what others give.

`make fuzz SECONDS=600` runs all harnesses; see docs/results/fuzzing.md.
"""
