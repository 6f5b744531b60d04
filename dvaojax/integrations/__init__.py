"""Use of the aggregators in other trainers, one module per trainer."""
