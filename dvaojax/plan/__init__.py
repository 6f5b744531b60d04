"""A run's memory and time on TPUs or GPUs: compiled ahead of time, without running it."""
