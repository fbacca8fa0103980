"""Training: images and captions in, checkpoints out. Run stage 1, then stage 2."""
