"""Shared code of the aggregators: statistics of groups and batches, and their interface."""
