"""Conversion between texts and token arrays."""

from collections.abc import Sequence

import numpy as np

from dvaojax.errors import UserError
from dvaojax.types import Completion, Prompt, Rollout, Tokenizer


def encode_prompts(
    tokenizer: Tokenizer, prompts: Sequence[Prompt], *, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Tokenizes prompts into arrays, padded on the right.

    Returns:
        `[B, width]` int32 tokens and `[B]` int32 lengths.

    Raises:
        UserError: a prompt has no token or more than `width`, or a character without a token.
    """
    rows = [encode(tokenizer, prompt.text, f"prompt {prompt.index}") for prompt in prompts]
    return pad_tokens(rows, tokenizer, width=width, limit="task.max_prompt_length")


def encode(tokenizer: Tokenizer, text: str, name: str) -> list[int]:
    """The tokens of a text.

    Args:
        tokenizer: of the task.
        text: to encode.
        name: of the text, for the error.

    Raises:
        UserError: the tokenizer cannot encode it, for example an unknown character.
    """
    try:
        return tokenizer.encode(text)
    except (ValueError, TypeError, LookupError) as error:
        raise UserError(f"{name}: {type(tokenizer).__name__} cannot encode it: {error}") from error


def pad_tokens(
    rows: Sequence[Sequence[int]], tokenizer: Tokenizer, *, width: int, limit: str
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of tokens as `[B, width]` int32, padded on the right, and their `[B]` int32 lengths.

    Args:
        rows: the tokens; at least one per row.
        tokenizer: provides the padding token.
        width: in tokens.
        limit: the setting that `width` comes from, for the error message.

    Raises:
        UserError: a row is empty or too long; nothing is truncated.
    """
    tokens = np.full((len(rows), width), tokenizer.pad_token, np.int32)
    for i, row in enumerate(rows):
        if not 0 < len(row) <= width:
            text = tokenizer.decode(row)
            raise UserError(
                f"{text[:60]!r} has {len(row)} tokens; {limit}={width} allows 1 to {width}"
            )
        tokens[i, : len(row)] = row
    return tokens, np.array([len(row) for row in rows], np.int32)


def decode_completions(tokenizer: Tokenizer, rollout: Rollout) -> list[list[Completion]]:
    """The sampled groups as text, `B` lists of `G`, with the sampled token ids unchanged."""
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
