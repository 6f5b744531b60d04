"""Rubric-ARM: a writer of rubrics and a judge, trained in turns, each with the other's export.

    dvaojax data prepare preferences --source DIRECTORY --columns prompt=prompt
    python experiments/rubric_arm.py runs/rubric-arm --rounds 2 --serve \\
        'vllm serve {model} --served-model-name {name} --host 127.0.0.1 --port {port}'

The order of a round is that of arXiv 2602.01511, in which the judge comes first:

1. the newest writer is served and writes one rubric for every preference, which are kept;
2. the judge is trained on these rubrics (`rubric_arm_judge.py`) and exported;
3. that export is served, and the writer is trained by its verdicts (`rubric_arm_writer.py`) and
   exported.

The first round starts from the `pretrained` weights of both files, which the paper fine-tunes on
demonstrations before. OUT contains data, runs, logs of the servers, and the exports `judge-1`,
`writer-1`, `judge-2` and so on. The same command continues after a stop, and with more rounds after
the end. SERVE is any command that serves the directory `{model}` with OpenAI's chat-completions
protocol under `{name}`; it runs while it is needed and is then stopped.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NoReturn

from dvaojax import files
from dvaojax.config import Config, overrides
from dvaojax.errors import UserError
from dvaojax.rewards.calls import most_frequent
from dvaojax.rewards.judge import Judge
from dvaojax.rewards.preferences import read_rubric_text
from dvaojax.tasks.rubric_writing import RubricWriting

HERE = Path(__file__).parent
_GRACE_SECONDS = 30.0  # for a server to end by itself


class AlternationError(Exception):
    """A part of a round failed; one line."""


class Terminated(SystemExit):
    """This process received SIGTERM."""


def run_command(arguments: Sequence[str]) -> None:
    """Runs `dvaojax` with these arguments in a process of its own.

    A run that is stopped by Ctrl-C, which it receives too, or by SIGTERM, which is passed on,
    finishes its step and is saved.

    Raises:
        AlternationError: it failed or was stopped.
    """
    with subprocess.Popen([sys.executable, "-m", "dvaojax", *arguments]) as process:
        while process.poll() is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                pass
            except Terminated:
                process.terminate()
    if process.returncode:
        raise AlternationError(
            f"dvaojax {shlex.join(arguments)} ended with code {process.returncode}; the same "
            "command continues from here"
        )


def _terminate(number: int, frame: object) -> NoReturn:
    raise Terminated(128 + number)


@dataclasses.dataclass(frozen=True)
class Serving:
    """How a model is served.

    Attributes:
        command: with `{model}`, `{name}` and `{port}`, which are replaced.
        port: on the loopback interface.
        start_seconds: limit for the time until it answers.
        logs: folder of the servers' output.
    """

    command: str
    port: int
    start_seconds: float
    logs: Path

    @property
    def url(self) -> str:
        """Address of the server, up to the version."""
        return f"http://127.0.0.1:{self.port}/v1"

    @contextlib.contextmanager
    def running(self, model: str, name: str) -> Iterator[None]:
        """Serves a model, and stops the server at the end.

        Args:
            model: a directory, or a repository of the hub.
            name: under which it is served.

        Raises:
            AlternationError: the port is in use, or the server ends or does not list the model
                within the limit.
        """
        if self._served_names() is not None:
            raise AlternationError(f"a server answers at {self.url} already: choose another --port")
        replaced = {"model": model, "name": name, "port": str(self.port)}
        command = [part.format(**replaced) for part in shlex.split(self.command)]
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as log:
            process = _start(command, log)
            try:
                self._wait(process, name, Path(log.name))
                yield
            finally:
                _stop(process)

    def _wait(self, process: subprocess.Popen, name: str, log: Path) -> None:
        end = time.monotonic() + self.start_seconds
        while name not in (self._served_names() or ()):
            if process.poll() is not None:
                raise AlternationError(
                    f"the server of {name} ended with code {process.returncode}; see {log}"
                )
            if time.monotonic() > end:
                raise AlternationError(
                    f"the server of {name} does not list it at {self.url}/models after "
                    f"{self.start_seconds:g} s (--start-seconds); see {log}"
                )
            time.sleep(0.1)

    def _served_names(self) -> list[str] | None:
        """The models that a server lists; None without a server."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(f"{self.url}/models", timeout=10.0) as response:
                return [model["id"] for model in json.load(response)["data"]]
        except urllib.error.HTTPError:
            return []
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _start(command: Sequence[str], log: IO[bytes]) -> subprocess.Popen:
    """Starts a server with a process group of its own, which `_stop` ends."""
    try:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    except OSError as error:
        raise AlternationError(f"--serve: {command[0]} cannot be started: {error}") from error


def _stop(process: subprocess.Popen) -> None:
    """Ends a server with all of its processes."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)


@dataclasses.dataclass(frozen=True)
class Role:
    """One of the two policies.

    Attributes:
        name: "writer" or "judge".
        experiment: its experiment file.
        settings: `key=value` each, for its runs.
    """

    name: str
    experiment: Path
    settings: Sequence[str]

    def config(self) -> Config:
        """The configuration of its first run."""
        return overrides.apply(overrides.load_experiment(self.experiment), self.settings)


@dataclasses.dataclass(frozen=True)
class Alternation:
    """The rounds of a writer and a judge; `run` performs what is missing.

    Attributes:
        out: folder of everything that is written.
        writer: trained by the judge's verdicts.
        judge: trained on the writer's rubrics.
        serving: how an export is served.
        command: runs `dvaojax` with arguments.
    """

    out: Path
    writer: Role
    judge: Role
    serving: Serving
    command: Callable[[Sequence[str]], None] = run_command

    def run(self, rounds: int) -> None:
        """Performs the rounds from 1 to `rounds` that are not complete.

        Raises:
            AlternationError: a part failed; a later call continues there.
            UserError: an experiment file or its data are invalid.
        """
        for number in range(1, rounds + 1):
            self._train_judge(number)
            self._train_writer(number)
            print(f"round {number}: {self._export('judge', number)}, then its writer, is complete")

    def _export(self, role: str, number: int) -> Path:
        """The directory of a role's export in a round."""
        return self.out / f"{role}-{number}"

    def _newest(self, role: Role, before: int) -> str:
        """The weights of a role before a round: an export, or those of its experiment file."""
        if before > 1:
            return str(self._export(role.name, before - 1))
        weights = role.config().pretrained
        if not weights:
            raise UserError(f"{role.experiment}: the first round needs published weights")
        return weights

    def _train_judge(self, number: int) -> None:
        if self._export("judge", number).exists():
            return
        dataset, data = f"rubrics_{number}", self.out / "data"
        source = self.out / f"rubrics-{number}"
        if not source.exists():
            name = f"writer-{number - 1}"
            with self.serving.running(self._newest(self.writer, number), name):
                self._write_rubrics(source, name)
        prepare = ["data", "prepare", dataset, "--source", str(source), "--data-dir", str(data)]
        self.command([*prepare, "--columns", "prompt=prompt"])
        self._train(
            self.judge,
            number,
            [f"task.data_dir={data}", f"task.train={dataset}", f"task.test={dataset}"],
        )

    def _train_writer(self, number: int) -> None:
        if self._export("writer", number).exists():
            return
        name = f"judge-{number}"
        with self.serving.running(str(self._export("judge", number)), name):
            self._train(
                self.writer,
                number,
                [
                    f"task.judge.url={self.serving.url}",
                    f"task.judge.model={name}",
                    f"task.judge.cache={self.out / f'{name}.sqlite'}",
                ],
            )

    def _train(self, role: Role, number: int, settings: Sequence[str]) -> None:
        """Trains one role from its newest weights, or continues, and exports it."""
        name, runs = f"{role.name}-{number}", self.out / "runs"
        changes = [*role.settings, f"pretrained={self._newest(role, number)}", *settings]
        start = ["--resume"] if (runs / name).exists() else []
        chosen = ["--name", name, "--runs", str(runs), *start, "--set", *changes]
        self.command(["train", str(role.experiment), *chosen])
        self.command(["export", str(runs / name), str(self._export(role.name, number))])

    def _write_rubrics(self, out: Path, model: str) -> None:
        """Lets the served writer write one rubric for every preference.

        Args:
            out: a new folder with one file for each of "train" and "test".
            model: the name of the served writer.

        Raises:
            AlternationError: it wrote no rubric for a whole split.
        """
        config = self.writer.config()
        task = config.task
        if not isinstance(task, RubricWriting):
            raise UserError(f"{self.writer.experiment}: the task is not rubric_writing")
        asked = Judge(
            dataclasses.replace(
                task.judge,
                url=self.serving.url,
                model=model,
                temperature=config.sampling.temperature,
                max_tokens=config.max_new_tokens,
                batch_seconds=7 * 24 * 3600.0,
                cache=str(self.out / f"{model}.sqlite"),
            )
        )
        with files.new_directory(out) as directory:
            for split, names in (("train", (task.train,)), ("test", task.test)):
                rows = _rows_with_rubrics(asked, task, names, split)
                (directory / f"{split}.jsonl").write_text("".join(rows), encoding="utf-8")


def _rows_with_rubrics(
    asked: Judge, task: RubricWriting, names: Sequence[str], split: str
) -> list[str]:
    """The preferences of a split with one rubric each, as lines of JSON."""
    records = [record for name in names for record in task.records(name, split)]
    questions = [
        [{"role": m["role"], "content": m["content"]} for m in task.messages(record)]
        for record in records
    ]
    answers, _ = asked.ask(questions, read_rubric_text)
    failures = [answer.failure for answer in answers if answer.value is None]
    if len(failures) == len(records):
        raise AlternationError(
            f"{split}: {asked.config.model} wrote no rubric for {len(records)} preferences: "
            f"{most_frequent(failures)}"
        )
    if failures:
        print(
            f"{split}: {len(failures)} of {len(records)} preferences are left out, for which "
            f"{asked.config.model} wrote no rubric: {most_frequent(failures)}"
        )
    return [
        json.dumps(
            {
                "prompt": [dict(message) for message in record.prompt],
                "metadata": {**record.metadata, "rubric": answer.value},
            }
        )
        + "\n"
        for record, answer in zip(records, answers, strict=True)
        if answer.value is not None
    ]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of everything written")
    parser.add_argument("--serve", required=True, help="the command that serves a model")
    parser.add_argument("--rounds", type=int, default=2, help="in all (default: 2)")
    parser.add_argument("--port", type=int, default=8765, help="of the server (default: 8765)")
    parser.add_argument(
        "--start-seconds", type=float, default=1800.0, help="for a server to start (default: 1800)"
    )
    for role in ("writer", "judge"):
        parser.add_argument(
            f"--{role}",
            type=Path,
            default=HERE / f"rubric_arm_{role}.py",
            metavar="FILE.py",
            help=f"experiment file of the {role}",
        )
        parser.add_argument(
            f"--set-{role}", nargs="+", default=[], metavar="KEY=VALUE", help=f"for the {role} only"
        )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="for writer and judge"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Performs the rounds; returns the exit code."""
    chosen = parse(arguments)
    signal.signal(signal.SIGTERM, _terminate)
    alternation = Alternation(
        out=chosen.out,
        writer=Role("writer", chosen.writer, [*chosen.set, *chosen.set_writer]),
        judge=Role("judge", chosen.judge, [*chosen.set, *chosen.set_judge]),
        serving=Serving(
            chosen.serve, chosen.port, chosen.start_seconds, logs=chosen.out / "servers"
        ),
    )
    try:
        alternation.run(chosen.rounds)
    except (AlternationError, UserError) as error:
        print(f"rubric_arm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
