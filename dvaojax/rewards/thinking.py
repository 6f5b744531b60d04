"""Separates the thoughts of a completion from its answer."""

END_OF_THINKING = "</think>"


def after_thinking(text: str) -> str:
    """The text after the last `</think>`; the whole text if there is none.

    A generation prompt may already contain the opening tag, so only the closing tag is looked for.
    A thought that was cut off is treated as an answer.
    """
    return text.rpartition(END_OF_THINKING)[2]
