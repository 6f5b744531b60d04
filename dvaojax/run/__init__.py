"""Everything a run keeps on disk and shows: directory, checkpoints, metrics, display."""
