"""A run's memory and time on a TPU slice: compiled ahead of time, without running it."""
