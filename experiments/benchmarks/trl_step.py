"""RL steps of TRL's `GRPOTrainer` on a workload, timed in their parts.

    python experiments/benchmarks/trl_step.py WORKLOAD.json [--micro-batches 2]

Needs `trl` and `torch`, not dvaojax. Started by `rl_step.py`, which reads its last line.

The settings are the fastest known: no gradient checkpointing, no suppressed tokens (the end of a
sequence is outside the vocabulary), no reference model, no second forward pass for old
log-probabilities. Rewards are normalised separately as in GDPO, TRL's closest method to DVAO.
"""

import json
import os
import tempfile
import time

import numpy as np
import torch
import trl
from datasets import Dataset
from peers import RewardClock, parse
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    StoppingCriteria,
    StoppingCriteriaList,
    TrainerCallback,
)
from words import Words, words_of
from workload import PROBE_TOKENS, WARM_UP, Workload


def main() -> None:
    workload, micro_batches = parse(__doc__)
    if not torch.cuda.is_available():
        torch.set_num_threads(len(os.sched_getaffinity(0)))

    model = make_model(workload)
    logprob = probe(model, workload)
    clock = Clock()
    if workload.is_ragged:
        impose_lengths(model, workload)
    trainer = make_trainer(model, workload, clock, micro_batches=micro_batches)
    trainer.train()
    report = {
        "version": trl.__version__,
        "torch": torch.__version__,
        "micro_batches": micro_batches,
        "probe_logprob": logprob,
        **clock.seconds(),
        "sampled_tokens": clock.rewards.sampled_tokens,
    }
    print(json.dumps(report))


class Clock(TrainerCallback):
    """Records when steps begin and end, and when rewards are computed."""

    def __init__(self):
        self.begins: list[float] = []
        self.ends: list[float] = []
        self.rewards = RewardClock()

    def on_step_begin(self, args, state, control, **_):
        self.begins.append(time.perf_counter())

    def on_step_end(self, args, state, control, **_):
        self.ends.append(time.perf_counter())

    def seconds(self) -> dict[str, list[float]]:
        """Seconds of the timed steps; a step starts at the end of the previous one."""
        whole = np.diff(self.ends, prepend=self.begins[0])[WARM_UP:].tolist()
        return {"step_seconds": whole, **self.rewards.seconds(self.begins, self.ends)}


def count_tokens(completion_ids, **_) -> int:
    return sum(map(len, completion_ids))


def make_model(workload: Workload) -> Qwen3ForCausalLM:
    shape = workload.model
    config = Qwen3Config(
        vocab_size=shape["vocab_size"],
        hidden_size=shape["width"],
        intermediate_size=shape["ff_width"],
        num_hidden_layers=shape["num_layers"],
        num_attention_heads=shape["num_heads"],
        num_key_value_heads=shape["num_kv_heads"],
        head_dim=shape["head_width"],
        rope_theta=shape["rope_theta"],
        rms_norm_eps=shape["norm_epsilon"],
        tie_word_embeddings=shape["tied_head"],
        pad_token_id=None,
        eos_token_id=shape["vocab_size"],
    )
    model = Qwen3ForCausalLM(config).to(getattr(torch, shape["param_dtype"]))
    if workload.weights:
        model.load_state_dict(state_dict(workload), strict=False)
    return model


def state_dict(workload: Workload) -> dict[str, torch.Tensor]:
    """The saved weights under Hugging Face's names, matrices as `[out, in]`."""
    shape, saved = workload.model, np.load(workload.weights)
    width, state = shape["width"], {"model.norm.weight": saved["norm/scale"]}
    state["model.embed_tokens.weight"] = saved["embedding"]
    state["lm_head.weight"] = saved["embedding"] if shape["tied_head"] else saved["head"].T
    for i in range(shape["num_layers"]):
        layer = {name.split("/", 1)[1]: saved[name][i] for name in saved if "layers/" in name}
        named = {
            "self_attn.q_proj": layer["query"].reshape(width, -1).T,
            "self_attn.k_proj": layer["key"].reshape(width, -1).T,
            "self_attn.v_proj": layer["value"].reshape(width, -1).T,
            "self_attn.o_proj": layer["output"].reshape(-1, width).T,
            "self_attn.q_norm": layer["query_norm/scale"],
            "self_attn.k_norm": layer["key_norm/scale"],
            "input_layernorm": layer["attention_norm/scale"],
            "post_attention_layernorm": layer["ff_norm/scale"],
            "mlp.gate_proj": layer["gate"].T,
            "mlp.up_proj": layer["up"].T,
            "mlp.down_proj": layer["down"].T,
        }
        state |= {f"model.layers.{i}.{name}.weight": array for name, array in named.items()}
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in state.items()}


@torch.no_grad()
def probe(model: Qwen3ForCausalLM, workload: Workload) -> float:
    """Mean log-probability of the first prompt's tokens, as `our_step.probe`."""
    tokens = torch.tensor([workload.prompts[0][0][:PROBE_TOKENS]], device=model.device)
    logprobs = model(tokens).logits[:, :-1].float().log_softmax(-1)
    return float(logprobs.gather(-1, tokens[:, 1:, None]).mean())


class Limits(StoppingCriteria):
    """Ends each row at its limit; TRL counts the end token that follows as the last token."""

    def __init__(self, prompt_length: int, limits: list[list[int]]):
        rows = torch.tensor(limits).flatten()
        # The longest rows end at the sampler's limit, or because all other rows have ended.
        self.lengths = prompt_length + torch.where(rows < rows.max(), (rows - 1).clamp(1), rows)

    def __call__(self, input_ids, scores, **_):
        return input_ids.shape[1] >= self.lengths.to(input_ids.device)


def impose_lengths(model: Qwen3ForCausalLM, workload: Workload) -> None:
    """Makes each call of `generate` end its rows at the limits of the next step."""
    generate, steps = model.generate, iter(workload.limits)
    prompt_length = len(workload.prompts[0][0])

    def limited(*arguments, **knobs):
        criteria = StoppingCriteriaList([Limits(prompt_length, next(steps))])
        return generate(*arguments, stopping_criteria=criteria, **knobs)

    model.generate = limited


def make_tokenizer(words: Words) -> PreTrainedTokenizerFast:
    """The tokenizer in TRL's form."""
    vocabulary = {f"w{i}": i for i in range(words.vocab_size)} | {f"w{words.end}": words.end}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w1"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    end = f"w{words.end}"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end, pad_token=end, padding_side="left"
    )


def make_trainer(
    model: Qwen3ForCausalLM, workload: Workload, clock: Clock, *, micro_batches: int
) -> trl.GRPOTrainer:
    words = words_of(workload)
    rows = [words.decode(prompt) for step in workload.prompts for prompt in step]
    completions = len(workload.prompts[0]) * workload.group_size
    return trl.GRPOTrainer(
        model=model,
        reward_funcs=clock.rewards.rewards(count_tokens),
        args=trl.GRPOConfig(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=completions // micro_batches,
            gradient_accumulation_steps=micro_batches,
            num_generations=workload.group_size,
            max_completion_length=workload.completion_length,
            max_steps=len(workload.prompts),
            learning_rate=1e-4,
            adam_beta2=0.95,
            beta=0.0,
            temperature=1.0,
            generation_kwargs={"suppress_tokens": [words.end]} if workload.is_ragged else None,
            multi_objective_aggregation="normalize_then_sum",
            gradient_checkpointing=False,
            bf16=workload.model["compute_dtype"] == "bfloat16",
            use_cpu=not torch.cuda.is_available(),
            shuffle_dataset=False,
            report_to=[],
            logging_steps=10**6,
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict({"prompt": rows}),
        processing_class=make_tokenizer(words),
        callbacks=[clock],
    )


if __name__ == "__main__":
    main()
