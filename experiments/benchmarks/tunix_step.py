"""RL steps of Tunix's `GRPOLearner` on a workload, timed in their parts.

    python experiments/benchmarks/tunix_step.py WORKLOAD.json [--micro-batches 2]

Needs `google-tunix`, not dvaojax. Started by `rl_step.py`, which reads its last line.

The settings are the fastest known: a cache of exactly the needed size, no reference model, and the
vanilla sampler on the trained weights (no copy, no transfer).
"""

import dataclasses
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tunix
from flax import nnx
from peers import RewardClock, parse
from tunix.models.qwen3 import model as qwen3
from tunix.rl import rl_cluster
from tunix.rl.grpo.grpo_learner import GRPOConfig, GRPOLearner
from tunix.rl.rollout.base_rollout import RolloutConfig
from words import words_of
from workload import PROBE_TOKENS, WARM_UP, Workload


def main() -> None:
    workload, micro_batches = parse(__doc__)

    kinds = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.make_mesh((1, 1), ("fsdp", "tp"), axis_types=kinds)
    with mesh:
        model = make_model(workload)
        logprob = probe(model, workload)
        clock = Clock()
        learner = make_learner(model, mesh, workload, clock, micro_batches=micro_batches)
        learner.train(clock.batches(workload))
        clock.end()
    report = {
        "version": tunix.__version__,
        "jax": jax.__version__,
        "micro_batches": micro_batches,
        "probe_logprob": logprob,
        **clock.seconds(),
        "sampled_tokens": clock.rewards.sampled_tokens,
        "peak_bytes": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
    }
    print(json.dumps(report))


class Clock:
    """Records when the learner generates, and when rewards are computed."""

    def __init__(self):
        self.begins: list[float] = []  # of generation; the last entry is the end of training
        self.rewards = RewardClock()

    def batches(self, workload: Workload):
        """The prompts of each step, as text."""
        words = words_of(workload)
        for step in workload.prompts:
            yield {"prompts": np.array([words.decode(prompt) for prompt in step])}

    def watch(self, cluster: rl_cluster.RLCluster) -> None:
        """Records when generation begins; it ends when the rewards are requested."""
        generate = cluster.generate

        def timed(*arguments, **knobs):
            self.begins.append(time.perf_counter())
            return generate(*arguments, **knobs)

        cluster.generate = timed

    def end(self) -> None:
        self.begins.append(time.perf_counter())

    def seconds(self) -> dict[str, list[float]]:
        """Seconds of the timed steps; a step ends at the beginning of the next one."""
        whole = np.diff(self.begins)[WARM_UP:].tolist()
        return {
            "step_seconds": whole,
            **self.rewards.seconds(self.begins[:-1], self.begins[1:]),
        }


def count_tokens(completions, **_) -> int:
    return sum(len(text.split()) for text in completions)


def make_model(workload: Workload) -> qwen3.Qwen3:
    shape = workload.model
    remat = {"none": qwen3.RematConfig.NONE, "layer": qwen3.RematConfig.DECODER}
    model = qwen3.Qwen3(
        qwen3.ModelConfig(
            num_layers=shape["num_layers"],
            vocab_size=shape["vocab_size"],
            embed_dim=shape["width"],
            hidden_dim=shape["ff_width"],
            num_heads=shape["num_heads"],
            head_dim=shape["head_width"],
            num_kv_heads=shape["num_kv_heads"],
            rope_theta=int(shape["rope_theta"]),
            norm_eps=shape["norm_epsilon"],
            use_tied_embedding=shape["tied_head"],
            remat_config=remat[shape["remat"]],
            dtype=jnp.dtype(shape["compute_dtype"]),
            param_dtype=jnp.dtype(shape["param_dtype"]),
        ),
        rngs=nnx.Rngs(0),
    )
    if workload.weights:
        load_weights(model, workload)
    return model


def load_weights(model: qwen3.Qwen3, workload: Workload) -> None:
    """Loads the saved weights, which have the shapes of Tunix's parameters."""
    saved = np.load(workload.weights)
    accessors = {
        "query": lambda layer: layer.attn.q_proj.w,
        "key": lambda layer: layer.attn.k_proj.w,
        "value": lambda layer: layer.attn.v_proj.w,
        "output": lambda layer: layer.attn.o_proj.w,
        "query_norm/scale": lambda layer: layer.attn.q_norm.w,
        "key_norm/scale": lambda layer: layer.attn.k_norm.w,
        "attention_norm/scale": lambda layer: layer.input_layernorm.w,
        "ff_norm/scale": lambda layer: layer.post_attention_layernorm.w,
        "gate": lambda layer: layer.mlp.gate_proj.kernel,
        "up": lambda layer: layer.mlp.up_proj.kernel,
        "down": lambda layer: layer.mlp.down_proj.kernel,
    }
    put(model.embedder.input_embedding, saved["embedding"])
    put(model.final_norm.w, saved["norm/scale"])
    if not workload.model["tied_head"]:
        put(model.lm_head.w, saved["head"])
    for i, layer in enumerate(model.layers):
        for name, accessor in accessors.items():
            put(accessor(layer), saved[f"layers/{name}"][i])


def put(param: nnx.Param, array: np.ndarray) -> None:
    if param[...].shape != array.shape:
        raise ValueError(f"weights of shape {array.shape} for parameters {param[...].shape}")
    param[...] = jnp.asarray(array, param[...].dtype)


def probe(model: qwen3.Qwen3, workload: Workload) -> float:
    """Mean log-probability of the first prompt's tokens, as `our_step.probe`."""
    tokens = jnp.asarray([workload.prompts[0][0][:PROBE_TOKENS]])
    length = tokens.shape[1]
    causal = jnp.tril(jnp.ones((1, length, length), bool))
    logits, _ = model(tokens, jnp.arange(length)[None], None, causal)
    logprobs = jax.nn.log_softmax(logits[:, :-1])
    return float(jnp.take_along_axis(logprobs, tokens[:, 1:, None], axis=-1).mean())


def impose_lengths(sampler, workload: Workload) -> None:
    """Makes each call of the sampler end its rows at the limits of the next step.

    End tokens are written into the token buffer in advance; the sampler keeps them, and never
    samples one itself.
    """
    begin, draw, steps = sampler.init_sample_state, sampler._sample, iter(workload.limits)
    prompt_length, end = len(workload.prompts[0][0]), words_of(workload).end

    def with_ends(tokens, **knobs):
        state = begin(tokens, **knobs)
        limits = np.ravel(next(steps))
        rows = np.arange(len(limits))
        before = jnp.full_like(state.token_buffer, end + 1).at[:, :prompt_length].set(tokens)
        ends = jnp.asarray(prompt_length + limits - 1)
        buffer = before.at[rows, ends].set(end)
        return dataclasses.replace(state, token_buffer=buffer)

    def up_to_the_end(logits, eos, cache, sampler_state):
        column = sampler_state.decoding_step + 1
        ends = sampler_state.token_buffer[:, column] == end
        state = draw(
            logits=logits.at[..., end].set(-jnp.inf),
            eos=eos,
            cache=cache,
            sampler_state=sampler_state,
        )
        drawn = jnp.where(ends, end, state.token_buffer[:, column])
        buffer = state.token_buffer.at[:, column].set(drawn)
        return dataclasses.replace(state, token_buffer=buffer, done=state.done | ends)

    sampler.init_sample_state, sampler._sample = with_ends, up_to_the_end


def make_learner(
    model: qwen3.Qwen3, mesh, workload: Workload, clock: Clock, *, micro_batches: int
) -> GRPOLearner:
    _, num_prompts, prompt_length = np.shape(workload.prompts)
    role = rl_cluster.Role
    cluster = rl_cluster.RLCluster(
        actor=model,
        tokenizer=words_of(workload),
        cluster_config=rl_cluster.ClusterConfig(
            role_to_mesh={role.ACTOR: mesh, role.REFERENCE: mesh, role.ROLLOUT: mesh},
            rollout_engine="vanilla",
            offload_to_cpu=False,
            training_config=rl_cluster.RLTrainingConfig(
                actor_optimizer=optax.chain(
                    optax.clip_by_global_norm(1.0), optax.adamw(1e-4, b2=0.95, weight_decay=0.0)
                ),
                eval_every_n_steps=10**6,
                max_steps=len(workload.prompts),
                mini_batch_size=num_prompts,
                train_micro_batch_size=num_prompts // micro_batches,
                rollout_micro_batch_size=num_prompts,
                compute_logps_micro_batch_size=num_prompts,
            ),
            rollout_config=RolloutConfig(
                max_tokens_to_generate=workload.completion_length,
                max_prompt_length=prompt_length,
                kv_cache_size=prompt_length + workload.completion_length,
                temperature=1.0,
                top_p=1.0,
                top_k=None,
            ),
        ),
    )
    if workload.is_ragged:
        impose_lengths(cluster.rollout._sampler, workload)
    clock.watch(cluster)
    return GRPOLearner(
        rl_cluster=cluster,
        reward_fns=clock.rewards.rewards(count_tokens),
        algo_config=GRPOConfig(
            num_generations=workload.group_size, num_iterations=1, beta=0.0, epsilon=0.2
        ),
    )


if __name__ == "__main__":
    main()
