"""Studies: single questions, measured."""
