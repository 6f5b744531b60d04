"""What a run needs on machines that are not at hand: compiled ahead of time, never run."""
