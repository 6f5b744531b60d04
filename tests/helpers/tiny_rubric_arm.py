"""A tiny model that writes rubrics and judges by them, with demonstrations that are often wrong.

Under a rubric that asks for thanks its verdict is mostly right, under another one mostly wrong. So
a writer of rubrics can learn which rubric to write, and a judge what to prefer.
"""

import json
import random
from pathlib import Path

import tokenizer_files
import tokenizers
import torch
import transformers

from dvaojax.data.records import ProblemRecord, user
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.rewards.preferences import comparison_question, rubric_question
from dvaojax.tasks.preferences import read_preference

GOOD, BAD = "1. It thanks.\n2. It is short.", "1. It is loud.\n2. It is long."
TOPICS = [f"{a} {b}" for a in ("red", "old", "wet", "big") for b in ("tea", "cat", "sea", "bus")]
ANSWER = "Criterion 1: A or B.\nCriterion 2: both.\nJustification: it does.\nVerdict: {}"
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
}


def row(topic: str) -> dict[str, str]:
    """The preference about a topic."""
    return {
        "prompt": f"Say something about {topic}.",
        "chosen": f"Thanks! I like {topic}.",
        "rejected": f"Never! I like {topic}.",
    }


def demonstration(generator: random.Random) -> tuple[list[dict[str, str]], str]:
    """A question and an answer, of the writer or of the judge."""
    columns = row(generator.choice(TOPICS))
    conversation = (("user", columns["prompt"]),)
    rubric = generator.choice((GOOD, BAD))
    if generator.random() < 0.3:
        return rubric_question(conversation), rubric
    metadata = {"source": "tiny", "row": 0, "rubric": rubric, **columns}
    preference = read_preference(ProblemRecord(user(columns["prompt"]), None, metadata))
    right = generator.random() < (0.85 if rubric == GOOD else 0.25)
    verdict = preference.preferred if right else {"A": "B", "B": "A"}[preference.preferred]
    return comparison_question(preference.comparison), ANSWER.format(verdict)


def write_tokenizer(directory: Path) -> PretrainedTokenizer:
    """A tokenizer whose tokens are frequent parts of the questions and answers."""
    path = tokenizer_files.write(
        directory,
        template=tokenizer_files.QWEN2_5,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    generator = random.Random(0)
    pairs = [demonstration(generator) for _ in range(200)]
    texts = [text for question, answer in pairs for text in (question[0]["content"], answer)]
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=alphabet, special_tokens=list(tokenizer_files.CHATML)
    )
    backend.train_from_iterator(texts, trainer)
    backend.save(str(directory / "tokenizer.json"))
    return PretrainedTokenizer(path)


def make(directory: Path, *, steps: int) -> int:
    """Trains the tiny model on demonstrations and writes it; returns its size of the vocabulary."""
    directory.mkdir(parents=True)
    tokenizer = write_tokenizer(directory)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = transformers.Qwen3Config(vocab_size=tokenizer.vocab_size, **SHAPE)
    model = transformers.Qwen3ForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    generator = random.Random(1)
    for _ in range(steps):
        loss = _loss(model, tokenizer, [demonstration(generator) for _ in range(8)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.save_pretrained(directory)
    (directory / "demonstrations.json").write_text(json.dumps({"loss": float(loss.detach())}))
    return tokenizer.vocab_size


def _loss(model, tokenizer: PretrainedTokenizer, pairs) -> torch.Tensor:
    """Mean negative log-likelihood of the answers' tokens."""
    stop = tokenizer.stop_tokens[0]
    rows = []
    for question, answer in pairs:
        prompt, target = tokenizer.encode(tokenizer.chat(question)), tokenizer.encode(answer)
        rows.append((prompt, [*target, stop]))
    width = max(len(prompt) + len(target) for prompt, target in rows)
    tokens = torch.full((len(rows), width), stop)
    labels = torch.full((len(rows), width), -100)
    for i, (prompt, target) in enumerate(rows):
        end = len(prompt) + len(target)
        tokens[i, :end] = torch.tensor(prompt + target)
        labels[i, len(prompt) : end] = torch.tensor(target)
    return model(input_ids=tokens, labels=labels).loss
