"""Models: texts and pictures to weighted words of a vocabulary."""
