"""What the aggregators share: statistics of groups and batches, and the interface itself."""
