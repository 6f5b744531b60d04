"""Tasks on the user's own preferences: rows, prompts, references and runs."""

import pytest
from comparing_judge import compared, verdict
from hostile_texts import completion
from judge_server import JudgeServer
from tiny_preferences import RUBRIC, TOPICS, little_run, rubric_judging, rubric_writing

from dvaojax import files
from dvaojax.data.records import ProblemRecord, user
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.errors import UserError
from dvaojax.rewards.preferences import read_rubric_text
from dvaojax.tasks.preferences import read_preference
from dvaojax.tasks.rubric_judging import RubricJudging
from dvaojax.train import train
from dvaojax.types import TaskWithAnswers, TaskWithScorer


def record(**metadata):
    return ProblemRecord(user("Greet."), None, {"source": "mine", "row": 3, **metadata})


def test_responses_are_texts_or_messages():
    as_text = read_preference(record(chosen="hello", rejected="damn", rubric=RUBRIC))
    asked, answered = user("Greet.")[0], {"role": "assistant", "content": "hello"}
    as_messages = read_preference(
        record(chosen=[asked, answered], rejected="damn", rubric=RUBRIC, score=3)
    )
    assert as_text == as_messages
    comparison = as_text.comparison
    assert {comparison.first, comparison.second} == {"hello", "damn"}
    assert (comparison.first if as_text.preferred == "A" else comparison.second) == "hello"
    assert comparison.rubric == RUBRIC


def test_half_of_the_better_responses_come_first():
    read = [read_preference(record(chosen=f"hello {i}", rejected="damn")) for i in range(1000)]
    first = sum(preference.preferred == "A" for preference in read)
    assert 437 < first < 563  # four standard deviations
    exchanged = [read_preference(record(chosen="damn", rejected=f"hello {i}")) for i in range(1000)]
    same = sum(a.preferred == b.preferred for a, b in zip(read, exchanged, strict=True))
    assert 437 < same < 563, "the position says nothing about the better response"


INVALID = (
    ({"rejected": "b"}, "'chosen' is neither text nor messages"),
    ({"chosen": "a"}, "'rejected' is neither text nor messages"),
    ({"chosen": "a", "rejected": []}, "'rejected' is neither text nor messages"),
    ({"chosen": 3, "rejected": "b"}, "'chosen' is neither text nor messages"),
    ({"chosen": list(user("a")), "rejected": "b"}, "of which the last is the assistant's"),
    ({"chosen": "a", "rejected": "a"}, "are equal, which is no preference"),
    ({"chosen": "a", "rejected": "b", "rubric": ["1. c"]}, "the rubric is not text"),
)


def test_invalid_rows_are_refused_by_name():
    for metadata, words in INVALID:
        with pytest.raises(UserError, match=f"^mine, row 3: .*{words}") as error:
            read_preference(record(**metadata))
        assert "\n" not in str(error.value)
    judging = RubricJudging(
        tokenizer=PretrainedTokenizer("unused"), train="mine", test=("mine/train",)
    )
    for rubric in (None, "", "It is polite."):
        with pytest.raises(UserError, match=r"mine, row 3: there is no rubric whose criteria"):
            judging.reference(record(chosen="a", rejected="b", rubric=rubric))


def test_the_judge_is_trained_on_the_questions_that_it_will_be_asked(tmp_path):
    """The judge task's prompt is the request of a run that trains rubrics, for the same rubric."""
    (tmp_path / "other").mkdir()
    judging, requests = rubric_judging(tmp_path / "other"), []
    with JudgeServer(lambda n, r: requests.append(r) or verdict("A")) as server:
        writing = rubric_writing(tmp_path, server.url)
        prompts = writing.prompts("train")
        scores = writing.scorer().score([[completion(RUBRIC)] for _ in prompts], prompts)
    assert len(requests) == len(prompts) == len(TOPICS)
    assert isinstance(writing, TaskWithScorer)
    sent = {writing.tokenizer.chat(request["messages"]) for request in requests}
    assert sent == {prompt.text for prompt in judging.prompts("train")}
    for prompt, reward in zip(prompts, scores.rewards.ravel(), strict=True):
        assert "Thanks" not in prompt.text
        assert reward == (prompt.reference.preferred == "A")


def test_judging_objectives_and_votes(tmp_path):
    task = rubric_judging(tmp_path)
    assert isinstance(task, TaskWithAnswers)
    prompt = task.prompts("test")[0]
    right = prompt.reference.preferred
    parts = ["Criterion 1: yes.", "Criterion 2: no.", "Justification: so.", f"Verdict: {right}"]
    rewards = {
        text: [reward(completion(text), prompt.reference) for reward in task.objectives.values()]
        for text in ("\n".join(parts), parts[-1], "\n".join(parts[:-1]))
    }
    assert list(task.objectives) == ["accuracy", "format"]
    assert list(rewards.values()) == [[1, 1], [1, 0], [0, 0]]
    assert task.answer(completion(parts[-1])) == right
    assert task.answer(completion("?")) is None


@pytest.mark.slow
@pytest.mark.nightly
def test_rubrics_and_judges_are_trained(tmp_path):
    """Runs of both tasks; each reward of a rubric is that of the served verdict."""

    def act(number, request):
        return verdict("A" if "Thanks" in compared(request)[0] else "B")

    with JudgeServer(act) as server:
        train(little_run(rubric_writing(tmp_path, server.url)), tmp_path / "runs")
    (tmp_path / "other").mkdir()
    train(little_run(rubric_judging(tmp_path / "other")), tmp_path / "runs")
    for name, objectives in (("rubric_writing", 1), ("rubric_judging", 2)):
        samples = files.read_json_lines(tmp_path / "runs" / name / files.SAMPLES)
        assert samples
        for sample in samples:
            assert len(sample["rewards"]) == objectives
            if name == "rubric_writing":
                is_rubric = read_rubric_text(sample["completion"]) is not None
                assert sample["rewards"]["accuracy"] == float(is_rubric)
