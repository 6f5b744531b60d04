"""Token arrays from texts, and texts from token arrays."""

from collections.abc import Sequence

import numpy as np

from dvaojax.errors import UserError
from dvaojax.types import Completion, Prompt, Rollout, Tokenizer


def encode_prompts(
    tokenizer: Tokenizer, prompts: Sequence[Prompt], *, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Prompts as arrays, padded on the right.

    Returns:
        `[B, width]` int32 tokens and `[B]` int32 lengths.

    Raises:
        UserError: a prompt has no token or more than `width`.
    """
    rows = [tokenizer.encode(prompt.text) for prompt in prompts]
    return pad_tokens(rows, tokenizer, width=width, limit="task.max_prompt_length")


def pad_tokens(
    rows: Sequence[Sequence[int]], tokenizer: Tokenizer, *, width: int, limit: str
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of tokens as `[B, width]` int32, padded on the right, and their `[B]` int32 lengths.

    Args:
        rows: the tokens; each row has one at least.
        tokenizer: whose padding it is.
        width: in tokens.
        limit: the setting that `width` comes from, for an error.

    Raises:
        UserError: a row is empty or does not fit; nothing is cut silently.
    """
    tokens = np.full((len(rows), width), tokenizer.pad_token, np.int32)
    for i, row in enumerate(rows):
        if not 0 < len(row) <= width:
            text = tokenizer.decode(row)
            raise UserError(
                f"{text[:60]!r} has {len(row)} tokens; {limit}={width} takes 1 to {width}"
            )
        tokens[i, : len(row)] = row
    return tokens, np.array([len(row) for row in rows], np.int32)


def decode_completions(tokenizer: Tokenizer, rollout: Rollout) -> list[list[Completion]]:
    """The sampled groups as text, `B` lists of `G`; the token ids are kept as they were sampled."""
    tokens, mask, stopped = (np.asarray(a) for a in (rollout.tokens, rollout.mask, rollout.stopped))
    lengths = mask.sum(axis=-1)
    groups: list[list[Completion]] = []
    for b in range(tokens.shape[0]):
        rows = [tuple(tokens[b, g, : lengths[b, g]].tolist()) for g in range(tokens.shape[1])]
        groups.append(
            [
                Completion(tokenizer.decode(row), row, bool(stopped[b, g]))
                for g, row in enumerate(rows)
            ]
        )
    return groups
