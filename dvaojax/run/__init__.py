"""Files and display of a run: directory, checkpoints, metrics, progress."""
