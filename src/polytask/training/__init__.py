"""Training: the loop, its settings, checkpoints and run folders."""
