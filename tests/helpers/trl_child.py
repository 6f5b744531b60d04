"""Trains a tiny Qwen3 with TRL's `GRPOTrainer` and the aggregators, and records what TRL used.

    python trl_child.py METHOD DIRECTORY [--resume CHECKPOINT]

Completions are letters. Rewarded are many `a`, few `b`, and, if the prompt has a `c`, a `c` at the
beginning. DIRECTORY/result.json has, for every batch, the completions and TRL's own advantages, and
the advantages that reached TRL's loss. No method is computed here.
"""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import jax
import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, set_seed
from trl import GRPOConfig

from dvaojax.integrations.trl import AggregatedGRPOTrainer

GROUP, LENGTH, STEPS, WEIGHTS = 4, 8, 4, (1.0, 0.5, 0.25)
LETTERS = "abcdefg"
KNOBS = {
    "reward_combination": {"ddof": 1, "epsilon": 1e-4},
    "lagrangian": {"threshold": 0.9, "rate": 5.0},
}


def many_a(completions, **_):
    return [text.count("a") / LENGTH for text in completions]


async def few_b(completions, **_):
    return [1 - text.count("b") / LENGTH for text in completions]


def begins_with_c(prompts, completions, **_):
    return [
        float(text.startswith("c")) if "c" in prompt else None
        for prompt, text in zip(prompts, completions, strict=True)
    ]


class Recording(AggregatedGRPOTrainer):
    """Keeps the batches, the advantages in the loss, and the states of the aggregator."""

    def __init__(self, *arguments, **settings):
        self.batches, self.in_loss, self.states = [], [], []
        super().__init__(*arguments, **settings)

    def _advantages(self, lengths):
        own = list(self._logs["advantages"])[-len(lengths) :]
        advantages = super()._advantages(lengths)
        self.batches[-1] |= {"of_trl": own, "mode": "train" if self.model.training else "eval"}
        self.batches[-1] |= {"lengths": lengths.tolist(), "returned": advantages.tolist()}
        self.states.append([np.asarray(x).tolist() for x in jax.tree.leaves(self.aggregator_state)])
        return advantages

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        tokens = [len(ids) for ids in completion_ids_list]
        self.batches.append({"prompts": prompts, "completions": completions, "tokens": tokens})
        return super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        self.batches[-1]["logged"] = list(self._logs["advantages"])
        return batch

    def _compute_loss(self, model, inputs):
        ids = [row.tolist() for row in inputs["completion_ids"]]
        self.in_loss.append({"ids": ids, "advantages": inputs["advantages"].tolist()})
        return super()._compute_loss(model, inputs)


def tokenizer():
    words = {letter: i for i, letter in enumerate(["<pad>", "<end>", *LETTERS])}
    plain = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    plain.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    plain.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="<end>", padding_side="left"
    )


def model():
    shape = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    config = Qwen3Config(
        vocab_size=2 + len(LETTERS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        **shape,
    )
    return Qwen3ForCausalLM(config)


def main():
    method, directory = sys.argv[1], Path(sys.argv[2])
    checkpoint = sys.argv[4] if "--resume" in sys.argv else None
    torch.set_num_threads(1)
    set_seed(0)
    config = GRPOConfig(
        output_dir=str(directory / "out"),
        num_generations=GROUP,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        per_device_eval_batch_size=4,
        num_generations_eval=2,
        max_completion_length=LENGTH,
        max_steps=STEPS,
        learning_rate=1e-2,
        beta=0.0,
        reward_weights=list(WEIGHTS),
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        seed=0,
    )
    prompts = Dataset.from_dict({"prompt": ["ab", "bc", "cd", "de"] * 4})
    trainer = Recording(
        model(),
        reward_funcs=[many_a, few_b, begins_with_c],
        args=config,
        train_dataset=prompts,
        eval_dataset=prompts.select(range(2)),
        processing_class=tokenizer(),
        aggregator=method,
        knobs=KNOBS.get(method),
    )
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train(resume_from_checkpoint=checkpoint)
    result = {
        "objectives": trainer.reward_func_names,
        "batches": trainer.batches,
        "in_loss": trainer.in_loss,
        "states": trainer.states,
        "moved": max(
            float((weight.detach() - before[name]).abs().max())
            for name, weight in trainer.model.named_parameters()
        ),
        "log": trainer.state.log_history,
    }
    (directory / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
