"""Tasks of prepared data: real rows, a real tokenizer, and full reward for correct answers."""

import json

import pytest
from program_attacks import requires_bubblewrap
from shared_data import shared

from dvaojax import cli
from dvaojax.data.grain_stream import GrainStream
from dvaojax.data.records import ProblemRecord
from dvaojax.data.stream import training_stream
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.errors import UserError
from dvaojax.tasks.gsm8k import GSM8K
from dvaojax.tasks.instructions import Instructions
from dvaojax.tasks.mathematics import INSTRUCTION, Mathematics
from dvaojax.tasks.programs import Programs
from dvaojax.tasks.rubrics import Rubrics
from dvaojax.tasks.tools import Tools
from dvaojax.types import Completion, Task, TaskWithNotes, TaskWithScorer

SETS = (
    "gsm8k",
    "math500",
    "aime25",
    "toolrl",
    "bfcl",
    "humaneval",
    "mbpp",
    "ifeval",
    "healthbench",
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Prepared sets and a tokenizer, as keyword arguments of a task."""
    directory = tmp_path_factory.mktemp("prepared")
    for name in SETS:
        command = ["data", "prepare", name, "--source", str(shared(name))]
        assert cli.main([*command, "--data-dir", str(directory)]) == 0
    tokenizer = PretrainedTokenizer(str(shared("tokenizers", "minimind")))
    return {"data_dir": str(directory), "tokenizer": tokenizer}


def completion(text):
    return Completion(text, tuple(range(10)), stopped=True)


def rewards_of(task, prompt, text):
    """Objective -> reward of a completion."""
    answer = completion(text)
    return {name: reward(answer, prompt.reference) for name, reward in task.objectives.items()}


def test_prompts_use_the_models_chat_template(prepared):
    task = Mathematics(**prepared, train="gsm8k/test", test=("math500", "aime25"))
    assert isinstance(task, Task)
    assert isinstance(task, TaskWithNotes)
    first = task.prompts("train")[0]
    assert first.text.startswith("<|im_start|>")
    assert first.text.count(INSTRUCTION) == 1
    assert "ducks lay 16 eggs" in first.text
    assert first.reference == "18"
    assert {prompt.category for prompt in task.prompts("test")} == {"math500", "aime25"}
    indices = [prompt.index for prompt in task.prompts("test")]
    assert len(set(indices)) == len(indices)


def test_stream_shuffles_with_grain(prepared):
    task = Mathematics(**prepared, train="aime25/test", test=("aime25",))
    stream = training_stream(task, seed=3)
    assert isinstance(stream, GrainStream)
    epochs = [[prompt.index for prompt in stream.take(range(i, i + 30))] for i in (0, 30)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(30))
    assert epochs[0] != epochs[1]


def test_long_prompts_are_dropped_or_refused_but_never_truncated(prepared):
    task = Mathematics(**prepared, train="", test=("math500",), max_prompt_length=200)
    kept = task.prompts("test")
    assert 0 < len(kept) < 500
    assert all(len(task.tokenizer.encode(prompt.text)) <= 200 for prompt in kept)
    assert task.notes("test")[0].startswith(f"test: dropped {500 - len(kept)} of 500 prompts")
    refusing = Mathematics(
        **prepared, train="", test=("math500",), max_prompt_length=200, on_long="refuse"
    )
    with pytest.raises(UserError, match="more than the limit of 200"):
        refusing.prompts("test")


def test_unprepared_set_names_the_command(prepared):
    with pytest.raises(UserError, match="dvaojax data prepare amc23"):
        Mathematics(**prepared, test=("amc23",)).prompts("test")


def test_opened_must_match_the_template(prepared):
    with pytest.raises(UserError, match=r"task\.opened='<think>'"):
        Mathematics(**prepared, train="", test=("math500",), opened="<think>").prompts("test")


def test_mathematics_gold_answers_are_correct_and_canonical(prepared):
    task = Mathematics(**prepared, train="", test=("math500",))
    for prompt in task.prompts("test"):
        text = f"So it is \\boxed{{{prompt.reference}}}."
        assert rewards_of(task, prompt, text) == {"accuracy": 1.0, "length": 1.0}, prompt.reference
        assert task.answer(completion(text)) is not None


def test_length_reward_may_require_a_correct_answer(prepared):
    task = Mathematics(**prepared, train="", test=("math500",), brevity="if_right")
    prompt = task.prompts("test")[0]
    assert rewards_of(task, prompt, "\\boxed{no such thing}") == {"accuracy": 0.0, "length": 0.0}
    assert rewards_of(task, prompt, f"\\boxed{{{prompt.reference}}}")["length"] == 1.0


def test_gsm8k_gold_answers_with_recommended_and_published_rewards(prepared):
    recommended = GSM8K(**prepared)
    published = GSM8K(**prepared, paid="reference")
    assert INSTRUCTION not in recommended.prompts("test")[0].text
    conflicts = 0
    for prompt in recommended.prompts("test"):
        text = f"<think>a thought</think>\n<answer>{prompt.reference}</answer>"
        assert set(rewards_of(recommended, prompt, text).values()) == {1.0}, prompt.reference
        conflicts += rewards_of(published, prompt, text)["integer"] == 0.0
    assert conflicts == 16  # 14 thousands commas and 2 negative answers


def test_toolrl_gold_answers_get_full_reward_in_every_grading(prepared):
    for grading, best in (("graded", 1.0), ("strict", 1.0), ("correctness", 3.0)):
        task = Tools(
            **prepared, train="", test=("toolrl",), max_prompt_length=8192, grading=grading
        )
        without_calls = 0
        for record, prompt in zip(
            task.records("toolrl", "test"), task.prompts("test"), strict=True
        ):
            rewards = rewards_of(task, prompt, record.metadata["gold_text"])
            assert rewards["format"] == 1.0
            assert rewards["accuracy"] == (best if record.metadata["wants_call"] else None)
            without_calls += rewards["accuracy"] is None
        assert without_calls == 9


def right_call(gold):
    """The first accepted value of every parameter, in ToolRL's format; "" means omission."""
    ((name, parameters),) = gold.items()
    chosen = {key: values[0] for key, values in parameters.items() if values[0] != ""}
    return json.dumps({"name": name, "parameters": chosen})


def test_leaderboard_questions_use_the_training_format(prepared):
    task = Tools(**prepared, train="toolrl/sft", max_prompt_length=8192)
    records, prompts = task.records("bfcl", "test"), task.prompts("test")
    right = {"simple_python": 0, "parallel": 0, "irrelevance": 0}
    asked = dict.fromkeys(right, 0)
    for record, prompt in zip(records, prompts, strict=True):
        if prompt.category not in right:
            continue
        answer = "<response>None of these helps.</response>"
        if record.answer:
            calls = "\n".join(map(right_call, record.answer))
            answer = f"<tool_call>\n{calls}\n</tool_call>"
        rewards = rewards_of(task, prompt, f"<think>So.</think>\n{answer}")
        assert rewards["format"] == 1.0
        right[prompt.category] += rewards["accuracy"] == 1.0
        asked[prompt.category] += 1
    assert asked == {"simple_python": 400, "parallel": 200, "irrelevance": 240}
    assert right["irrelevance"] == 240
    # In nested dictionaries the options are inside, so the first option is not a valid value.
    assert right["simple_python"] >= 390
    assert right["parallel"] >= 190
    text = prompts[0].text
    assert text.count("1. Name: calculate_triangle_area\nDescription: ") == 1
    assert "2. Name:" not in text
    assert "**Steps for Each Turn**" in text


def test_rejects_training_set_without_tool_list(prepared):
    with pytest.raises(UserError, match=r"task\.train=gsm8k.*does not list tools"):
        Tools(**prepared, train="gsm8k").prompts("test")


@requires_bubblewrap
def test_programs_are_scored_by_test_and_missing_tests_do_not_apply(prepared):
    task = Programs(**prepared, tests=4)
    assert isinstance(task, TaskWithScorer)
    for split, count in (("train", 170), ("test", 164)):
        assert len(task.prompts(split)) == count
    prompt = task.prompts("train")[0]
    solution = task.records("mbpp", "train")[0].metadata["code"]
    answers = [[completion(f"```python\n{solution}\n```"), completion("None.")]]
    scores = task.scorer().score(answers, [prompt])
    assert task.scored_objectives == ("passed", "test_1", "test_2", "test_3", "test_4")
    assert scores.rewards.tolist() == [[[1.0, 1.0, 1.0, 1.0, 0.0], [0.0] * 5]]
    assert scores.mask.tolist() == [[[True] * 4 + [False]] * 2]


def test_instructions_are_separate_objectives(prepared):
    task = Instructions(**prepared)
    rewards = [rewards_of(task, prompt, "x") for prompt in task.prompts("test")]
    counts = [sum(row[f"instruction_{n}"] is not None for n in (1, 2, 3)) for row in rewards]
    assert [counts.count(n) for n in (1, 2, 3)] == [305, 179, 57]


def test_calls_that_a_judge_would_not_see_are_refused():
    task = Rubrics(tokenizer=PretrainedTokenizer("unused"))
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "look"}}]}
    user = {"role": "user", "content": "?"}
    metadata = {"source": "mine", "row": 3, "rubrics": [{"criterion": "a", "points": 1}]}
    assert task.reference(ProblemRecord((user,), None, metadata)).items
    with pytest.raises(UserError, match="mine, row 3: the judge is not shown the tool_calls"):
        task.reference(ProblemRecord((user, call, user), None, metadata))


def test_every_tenth_rubric_is_held_out(prepared):
    task = Rubrics(**prepared)
    assert isinstance(task, TaskWithScorer)
    train, test = (
        {record.metadata["row"] for record in task.records("healthbench/test", split)}
        for split in ("train", "test")
    )
    assert (len(train), len(test)) == (45, 5)
    assert not train & test


@pytest.mark.parametrize(("reading", "count"), [("overall", 1), ("axes", 5), ("items", 17)])
def test_readings_of_a_judges_grades(prepared, reading, count):
    task = Rubrics(**prepared, reading=reading)
    assert task.objectives == {}
    assert len(task.scored_objectives) == count
    assert task.scorer().objectives == task.scored_objectives
