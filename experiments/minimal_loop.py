"""Multi-reward reinforcement learning with DVAO in one file, on a task that trains in seconds.

    python experiments/minimal_loop.py [SEED]

The policy is a decoder with one layer and random weights. The prompt is a consonant, the completion
eight tokens, scored on three objectives in [0, 1]:

- `copies`: the share of tokens that equal the prompt;
- `vowels`: the share of tokens that are vowels, which conflicts with `copies`: no letter is both;
- `alternation`: the share of neighbouring letters of which exactly one is a vowel.

Every completion has the same length, so that no objective rises by writing more. The best
completions alternate the prompt's letter with vowels, "cacecoca" for the prompt "c", and earn
copies 0.5, vowels 0.5 and alternation 1. Then all completions of a group are equally good: groups
without variance have advantage 0, and training is finished.
"""

import itertools
import sys

import jax
import jax.numpy as jnp
import optax

from dvaojax import models
from dvaojax.aggregators import diagnostics, dvao, named_weights
from dvaojax.data.text import decode_completions, encode_prompts
from dvaojax.losses import clipped_surrogate
from dvaojax.rewards import RewardSuite
from dvaojax.rollout import Sampling, completion_keys, rollout
from dvaojax.tasks.characters import CharacterTokenizer
from dvaojax.types import Prompt

VOWELS = "aeo"
TOKENIZER = CharacterTokenizer("bcdfgh" + VOWELS)
PROMPTS = [Prompt(letter, reference=letter, index=i) for i, letter in enumerate("bcdf")]
GROUP_SIZE = 64  # G, completions of each of the B = 4 prompts
LENGTH = 8  # T, tokens of every completion
NUM_STEPS = 100
CLIP = 0.2
MODEL = models.ModelConfig(
    vocab_size=TOKENIZER.vocab_size,
    width=64,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_width=16,
    ff_width=128,
)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))


def copies(completion, reference):
    return completion.text.count(reference) / LENGTH


def vowels(completion, reference):
    del reference
    return sum(letter in VOWELS for letter in completion.text) / LENGTH


def alternation(completion, reference):
    del reference
    is_vowel = [letter in VOWELS for letter in completion.text]
    return sum(first != second for first, second in itertools.pairwise(is_vowel)) / (LENGTH - 1)


SUITE = RewardSuite({"copies": copies, "vowels": vowels, "alternation": alternation})
WEIGHTS = named_weights({"copies": 2.0, "vowels": 1.0, "alternation": 1.0}, SUITE.objectives)


@jax.jit
def sample(params, prompt_tokens, prompt_lengths, keys):
    """Samples G completions of each prompt; the prompt is processed once per group."""
    return rollout(
        params,
        prompt_tokens,
        prompt_lengths,
        keys,
        config=MODEL,
        sampling=Sampling(temperature=1.0),
        max_new_tokens=LENGTH,
        stop_tokens=(),
        pad_token=TOKENIZER.pad_token,
    )


def policy_loss(params, prompt_tokens, prompt_lengths, completions, advantages):
    """The clipped surrogate, averaged over the sampled tokens."""
    policy = models.apply(MODEL, params)
    hidden = policy(prompt_tokens, prompt_lengths, completions.tokens)  # [B, G, T, D]
    logp, _ = models.token_logprobs(hidden, policy.output_matrix(), completions.tokens)
    loss, _ = clipped_surrogate(
        logp,
        completions.logprobs,
        advantages,
        where=completions.mask,
        clip_low=CLIP,
        clip_high=CLIP,
    )
    return loss.total / loss.count


@jax.jit
def update(params, opt_state, prompt_tokens, prompt_lengths, completions, rewards, mask):
    """One optimizer step on the DVAO advantages of rewards `[B, G, K]`."""
    advantages = dvao(rewards, WEIGHTS, mask=mask)  # [B, G]
    gradients = jax.grad(policy_loss)(
        params, prompt_tokens, prompt_lengths, completions, advantages
    )
    updates, opt_state = OPTIMIZER.update(gradients, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


def train(seed, *, num_steps=NUM_STEPS, report=print):
    """Trains a policy and returns the mean reward of each objective, `[num_steps, K]`."""
    params_key, sampling_key = jax.random.split(jax.random.key(seed))
    params = models.init(MODEL, params_key)
    opt_state = OPTIMIZER.init(params)
    prompt_tokens, prompt_lengths = encode_prompts(TOKENIZER, PROMPTS, width=1)
    serials = jnp.arange(len(PROMPTS))  # each prompt has its own random keys
    curve = []
    for step in range(num_steps):
        step_key = jax.random.fold_in(sampling_key, step)
        keys = completion_keys(step_key, serials, group_size=GROUP_SIZE)  # [B, G]
        completions = sample(params, prompt_tokens, prompt_lengths, keys)
        groups = decode_completions(TOKENIZER, completions)  # B lists of G texts
        scores = SUITE.score(groups, PROMPTS)
        rewards, mask = scores.rewards, scores.mask  # [B, G, K]
        params, opt_state = update(
            params, opt_state, prompt_tokens, prompt_lengths, completions, rewards, mask
        )
        curve.append(rewards.mean((0, 1), where=mask))
        if step % 10 == 0 or step == num_steps - 1:
            constant = diagnostics(rewards, WEIGHTS, mask=mask).zero_variance_groups.value
            means = "  ".join(
                f"{name} {mean:.2f}" for name, mean in zip(SUITE.objectives, curve[-1], strict=True)
            )
            example = f"{PROMPTS[1].text}: {groups[1][0].text}"
            report(f"step {step:3d}  {means}  groups without variance {constant:.2f}  {example}")
    return jnp.stack(curve)


if __name__ == "__main__":
    train(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
