"""One run: its steps, checkpoints, log and results."""
