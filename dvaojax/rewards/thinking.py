"""Separates the thoughts of a completion from its answer."""

END_OF_THINKING = "</think>"


def after_thinking(text: str) -> str:
    """The text after the last `</think>`; the whole text if there is none.

    A generation prompt may already contain the opening tag, so only the closing tag is looked for.
    A thought that was cut off is treated as an answer.
    """
    return text.rpartition(END_OF_THINKING)[2]


def visible_answer(text: str) -> str:
    """`after_thinking`, but empty if it has no visible character."""
    answer = after_thinking(text)
    return answer if any(c.isprintable() and not c.isspace() for c in answer) else ""
