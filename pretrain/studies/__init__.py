"""Studies of training: single questions, measured."""
