"""From problems to token arrays, and from sampled tokens back to text."""
