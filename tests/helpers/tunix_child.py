"""Trains a tiny Qwen3 with Tunix's learner, in a process with Tunix's settings of JAX.

    python tunix_child.py METHOD STEPS RESULT.json

Completions are letters. Rewarded are many `a`, few `b`, and, if the prompt has a `c`, a `c` at the
beginning. The result contains Tunix's own values: the texts and advantages that its learner passed
to a metric function, and the scalars that its logger received. No method is computed here.
"""

import json
import sys

import jax
import numpy as np
import optax
import tunix
from flax import nnx
from tunix.models.qwen3 import model as qwen3
from tunix.rl import function_registry, rl_cluster
from tunix.rl.grpo.grpo_learner import GRPOConfig, GRPOLearner
from tunix.rl.rollout.base_rollout import RolloutConfig

from dvaojax.integrations.tunix import register

PROMPTS, GROUP, PROMPT_LENGTH, LENGTH = 4, 8, 4, 8
LETTERS = "abcdefg"
WEIGHTS = {"many_a": 1.0, "few_b": 0.5, "begins_with_c": 0.25}
EQUAL = dict.fromkeys(WEIGHTS, 1.0)
KNOBS = {"grpo": {"epsilon": 1e-6}, "lagrangian": {"threshold": 0.9, "rate": 5.0}}


class Letters:
    """A tokenizer of letters; 0 ends a completion and has no text."""

    def encode(self, text, **_):
        return [1 + LETTERS.index(letter) for letter in text]

    def decode(self, ids, **_):
        return "".join(LETTERS[i - 1] for i in ids if i)

    def bos_id(self):
        return None

    def eos_id(self):
        return 0

    def pad_id(self):
        return 0


def many_a(prompts, completions, **_):
    return [text.count("a") / LENGTH for text in completions]


def few_b(prompts, completions, **_):
    return [1 - text.count("b") / LENGTH for text in completions]


def begins_with_c(prompts, completions, **_):
    return [
        float(text.startswith("c")) if "c" in prompt else np.nan
        for prompt, text in zip(prompts, completions, strict=True)
    ]


def make_cluster(steps):
    kinds = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.make_mesh((1, 1), ("fsdp", "tp"), axis_types=kinds)
    role = rl_cluster.Role
    with mesh:
        actor = qwen3.Qwen3(
            qwen3.ModelConfig(
                num_layers=1,
                vocab_size=1 + len(LETTERS),
                embed_dim=32,
                hidden_dim=64,
                num_heads=2,
                head_dim=16,
                num_kv_heads=1,
                rope_theta=10_000,
                norm_eps=1e-6,
                use_tied_embedding=True,
            ),
            rngs=nnx.Rngs(0),
        )
    cluster = rl_cluster.RLCluster(
        actor=actor,
        tokenizer=Letters(),
        cluster_config=rl_cluster.ClusterConfig(
            role_to_mesh={role.ACTOR: mesh, role.REFERENCE: mesh, role.ROLLOUT: mesh},
            rollout_engine="vanilla",
            training_config=rl_cluster.RLTrainingConfig(
                actor_optimizer=optax.adam(1e-2),
                eval_every_n_steps=10**6,
                max_steps=steps,
                mini_batch_size=PROMPTS,
                train_micro_batch_size=PROMPTS // 2,
                rollout_micro_batch_size=PROMPTS,
            ),
            rollout_config=RolloutConfig(
                max_tokens_to_generate=LENGTH,
                max_prompt_length=PROMPT_LENGTH,
                kv_cache_size=PROMPT_LENGTH + LENGTH,
                temperature=1.0,
                top_p=1.0,
                top_k=None,
            ),
        ),
    )
    return mesh, cluster


def parameters(cluster):
    """Copies of the trained parameters, because Tunix donates the arrays in each step."""
    state = nnx.state(cluster.actor_trainer.model, nnx.Param)
    return jax.tree.map(np.array, nnx.to_pure_dict(state))


def batches(steps):
    generator = np.random.default_rng(0)
    for _ in range(steps):
        letters = generator.choice(list(LETTERS), (PROMPTS, PROMPT_LENGTH))
        letters[0, 0] = "c"  # every objective applies to at least one prompt
        yield {"prompts": np.array(["".join(row) for row in letters])}


def main(method, steps, result):
    scalars, calls = [], []

    def listen(event, value, **_):
        scalars.append([event, float(np.mean(value))])

    def note(prompts, completions, rewards, advantages, **_):
        grpo = function_registry.get_advantage_estimator("grpo")
        calls.append(
            {
                "prompts": [str(prompt) for prompt in prompts],
                "completions": list(completions),
                "rewards": np.asarray(rewards).tolist(),
                "advantages": np.asarray(advantages).tolist(),
                "tunix_grpo": grpo(rewards=np.asarray(rewards), num_generations=GROUP).tolist(),
            }
        )
        return {}

    mesh, cluster = make_cluster(steps)
    jax.monitoring.register_scalar_listener(listen)  # Tunix logs through JAX
    before = parameters(cluster)
    knobs = KNOBS.get(method, {})
    weights = EQUAL if method == "grpo" else WEIGHTS
    names = register(method, weights, count_tokens=len, **knobs)
    learner = GRPOLearner(
        rl_cluster=cluster,
        reward_fns=[few_b, many_a, begins_with_c],
        algo_config=GRPOConfig(num_generations=GROUP, beta=0.0, **names),
        metric_fns=[note],
    )
    with mesh:
        learner.train(batches(steps))
    moved = jax.tree.map(
        lambda old, new: float(np.abs(new - old).max()), before, parameters(cluster)
    )
    report = {
        "version": tunix.__version__,
        "weights": weights,
        "knobs": knobs,
        "objectives": list(learner.reward_manager.objectives),
        "calls": calls,
        "scalars": scalars,
        "moved": jax.tree.leaves(moved),
    }
    with open(result, "w") as file:
        json.dump(report, file)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
