"""What a run cannot go on from."""


class TrainingError(RuntimeError):
    """The run cannot go on: the numbers are not finite, or an invariant was violated."""


def stop_if_not_finite(when: str, skipped_in_a_row: int, *, limit: int, rate: str) -> None:
    """Ends a run whose updates have been skipped for too long.

    Args:
        when: what has just been done.
        skipped_in_a_row: updates without a finite loss and gradient, the latest of them last.
        limit: how many of them a run survives.
        rate: the setting that the learning rate comes from.

    Raises:
        TrainingError: there were more than that.
    """
    if skipped_in_a_row > limit:
        raise TrainingError(
            f"{when}: loss or gradient was not finite in {skipped_in_a_row} updates in a row, "
            f"more than max_skipped_in_a_row={limit}: try a smaller {rate}"
        )
