"""Chat templates as programs of others: limits, and what a template leaves out of a prompt."""

import concurrent.futures
import json
import subprocess
import sys
import time

import pytest
from tokenizer_files import LLAMA3, QWEN2_5, write

from dvaojax.data import templates
from dvaojax.data.templates import TemplateError
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.errors import UserError

USER = {"role": "user", "content": "What is 2+2?"}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add"}}]}
RESULT = {"role": "tool", "content": "4"}
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


@pytest.fixture
def made(tmp_path):
    """Factory of tokenizers with a given template."""

    def make(template, **settings):
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        directory.mkdir()
        return PretrainedTokenizer(
            write(directory, template=template, eos_token="<|im_end|>", **settings)
        )

    return make


def render(template, **variables):
    return templates.render(template, [USER], tools=None, variables=variables)


LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
ENDLESS = {
    "nested loops": LOOP,
    "one long computation in C": "{{ ('a' * 40000000)|replace('a', 'bc')|length }}" * 50,
}


@pytest.mark.slow
def test_endless_templates_end_in_one_line(made, monkeypatch):
    monkeypatch.setattr(templates, "SECONDS", 0.3)
    for kind, template in ENDLESS.items():
        begun = time.monotonic()
        with pytest.raises(UserError, match=r"the chat template failed: it did not end within 0.3"):
            made(template).chat([USER])
        assert time.monotonic() - begun < 30.0, kind
    monkeypatch.undo()
    assert render("{{ messages[0].content }}") == "What is 2+2?"  # a new process


def test_a_loop_that_only_one_message_begins_is_ended_too(made, monkeypatch):
    tokenizer = made("{% if 'x' in messages[0].content %}" + LOOP + "{% endif %}" + QWEN2_5)
    assert tokenizer.chat([USER]).endswith("assistant\n")
    monkeypatch.setattr(templates, "SECONDS", 0.3)
    with pytest.raises(UserError, match="did not end within"):
        tokenizer.chat([{"role": "user", "content": "x"}])


def test_a_thinking_switch_is_looked_up_with_the_same_limit(made):
    deep = "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}"
    with pytest.raises(UserError, match=r"the chat template failed: .*recursion"):
        made(deep).chat([USER], thinking="on")


@pytest.mark.parametrize(
    "template",
    ["{{ 'a' * 10000000000 }}", "{{ ('a' * 1500000000)[:5] }}", "{{ 'a' * 20000000 }}"],
)
def test_large_texts_are_refused(template):
    with pytest.raises(TemplateError, match=r"MemoryError|wrote more than 10,000,000 characters"):
        render(template)


def test_errors_are_one_line():
    for template in ("{{ raise_exception('no\nno') }}", "{% include '/etc/passwd' %}", "{{"):
        with pytest.raises(TemplateError) as error:
            render(template)
        assert "\n" not in str(error.value)


def test_special_tokens_text_and_numbers_pass_unchanged():
    value = "\u2028é🙂\x00\ud800"
    assert render("{{ value }}", value=value) == value
    assert render("{{ value + 1 }}", value=2**70) == str(2**70 + 1)
    assert render("{{ value is none }}", value=None) == "True"


def test_several_threads_get_their_own_answers():
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: render("{{ i }}", i=i), range(100)))
    assert answers == [str(i) for i in range(100)]


def test_an_interrupt_does_not_mix_up_answers(monkeypatch):
    exchange = templates._Worker._exchange

    def interrupted(worker, line):
        """Sends a request, and is interrupted before its answer is read."""
        exchange(worker, line)
        worker._process.stdin.write(line)
        worker._process.stdin.flush()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(templates._Worker, "_exchange", interrupted)
        with pytest.raises(KeyboardInterrupt):
            render("{{ 'the answer of the interrupted request' }}")
    assert render("{{ 1 + 1 }}") == "2"


def test_the_process_ends_with_its_parent():
    code = """
import os, signal, sys
from dvaojax.data import templates
templates.render("{{ 1 }}", [], tools=None, variables={})
print(templates._worker()._process.pid, flush=True)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""
    for end in ("killed", "ended"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, end], capture_output=True, text=True
        )
        assert done.stderr == ""
        deadline = time.monotonic() + 20.0
        while _is_running(int(done.stdout)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _is_running(int(done.stdout)), end


def _is_running(number):
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# Templates that ignore a part of their input.


def test_a_template_without_the_assistants_header_is_refused(made):
    with pytest.raises(UserError, match="ignores add_generation_prompt: it does not write") as e:
        made(TURNS).chat([USER])
    assert r"'<|im_start|>assistant\n'" in str(e.value)
    assert "\n" not in str(e.value)
    header = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    assert made(TURNS + header).chat([USER]).endswith("<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    "template",
    [
        # Llama 2: the answer follows the question, without a header.
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }} </s>{% endif %}{% endfor %}",
        "{% for m in messages %}{{ m.content }}\n{% endfor %}",
        # The header is always written, and answers are not part of any prompt.
        "User: {{ messages[0].content }}\nAssistant:",
        LLAMA3,
    ],
)
def test_a_template_that_always_opens_the_answer_is_accepted(made, template):
    assert "2+2" in made(template, bos_token="<|im_start|>").chat([USER])


def test_a_template_that_ignores_tools_is_refused(made):
    header = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    plain = made(TURNS + header)
    assert plain.chat([USER], tools=[]) == plain.chat([USER])
    with pytest.raises(UserError, match="ignores tools: it writes the same prompt without them"):
        plain.chat([USER], tools=[TOOL])
    mentioned = made("{% if tools %}{% endif %}" + TURNS + header)
    with pytest.raises(UserError, match="ignores tools"):
        mentioned.chat([USER], tools=[TOOL])
    assert '"add"' in made(QWEN2_5).chat([USER], tools=[TOOL])


def test_a_template_that_ignores_calls_in_the_history_is_refused(made):
    header = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    with pytest.raises(UserError, match="ignores tool_calls of messages"):
        made(TURNS + header).chat([USER, CALL, RESULT])
    calls = "{% for m in messages %}{{ m.tool_calls|default('')|tojson }}{% endfor %}"
    assert '[{"function": {"name": "add"}}]' in made(calls + TURNS + header).chat(
        [USER, CALL, RESULT]
    )


# Damaged files of a tokenizer.


DEEP = "[" * 100_000
GENERATION = [
    ("[1]", "generation_config.json is not a JSON object"),
    ('"x"', "generation_config.json is not a JSON object"),
    (DEEP, "nested too deeply"),
    ("{", "is not JSON"),
    ('{"eos_token_id": "x"}', "stop token 'x' is not in its vocabulary"),
    ('{"eos_token_id": 1e400}', "stop token inf is not"),
    ('{"eos_token_id": -1}', "stop token -1 is not"),
    ('{"eos_token_id": 1.5}', "stop token 1.5 is not"),
    ('{"eos_token_id": 1.0}', "stop token 1.0 is not"),
    ('{"eos_token_id": true}', "stop token True is not"),
    ('{"eos_token_id": [[1]]}', r"stop token \[1\] is not"),
    ('{"eos_token_id": {"a": 1}}', r"stop token \{'a': 1\} is not"),
]
TOKENIZER = [
    ("tokenizer.json", "[]"),
    ("tokenizer.json", DEEP),
    ("tokenizer.json", '{"model": {"type": "BPE", "vocab": {}, "merges": []}}'),
    ("tokenizer.json", "\ufeff{}"),
    ("tokenizer_config.json", "[]"),
    ("tokenizer_config.json", DEEP),
    ("tokenizer_config.json", '{"tokenizer_class": ["x"]}'),
]


def test_damaged_files_give_one_line(made, tmp_path):
    count = 0
    for text, message in GENERATION:
        tokenizer = made(QWEN2_5)
        with open(f"{tokenizer.path}/generation_config.json", "w") as file:
            file.write(text)
        with pytest.raises(UserError, match=message) as error:
            tokenizer.encode("a")
        assert "\n" not in str(error.value)
        count += 1
    for name, text in TOKENIZER:
        tokenizer = made(QWEN2_5)
        with open(f"{tokenizer.path}/{name}", "w") as file:
            file.write(text)
        with pytest.raises(UserError) as error:
            tokenizer.chat([USER])
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 600
        count += 1
    assert count == 19


@pytest.mark.parametrize("template", [5, True, {"a": "b"}, [{"name": "default"}], ["x"]])
def test_a_template_of_another_type_gives_one_line(made, template):
    tokenizer = made(QWEN2_5)
    with open(f"{tokenizer.path}/tokenizer_config.json") as file:
        settings = json.load(file)
    with open(f"{tokenizer.path}/tokenizer_config.json", "w") as file:
        json.dump({**settings, "chat_template": template}, file)
    with pytest.raises(UserError) as error:
        tokenizer.chat([USER])
    assert "\n" not in str(error.value)


def test_a_warning_of_the_library_about_the_files_is_not_printed(made, capfd):
    tokenizer = made(QWEN2_5)
    with open(f"{tokenizer.path}/config.json", "w") as file:
        json.dump({"model_type": "evil\x1b[31m", "auto_map": {"AutoConfig": "evil.Config"}}, file)
    tokenizer.chat([USER])
    assert "evil" not in "".join(capfd.readouterr())
