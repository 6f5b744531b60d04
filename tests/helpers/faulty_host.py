"""An experiment in which one process meets a fault, as the variables PROCESS, FAULT and MOMENT say.

FAULT is kill, stop, raise or disk; MOMENT is compile, rollout or save.
`disk` limits the size of the files of the process, so that writing its part of a checkpoint fails.
"""

import dataclasses
import os
import resource
import signal
import threading
from unittest import mock

import digits_run
import jax

from dvaojax.run.checkpoint import Checkpoints
from dvaojax.train import compiling, loop

PROCESS = int(os.environ.get("PROCESS", "-1"))
saved_steps: list[int] = []


def meet() -> None:
    """The fault."""
    fault = os.environ["FAULT"]
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if fault == "raise":
        raise ValueError("the fault of this test")
    if fault == "disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))


def digits(completion, reference):
    """A reward that meets the fault in the rollout after the first checkpoints."""
    if os.environ["MOMENT"] == "rollout" and len(saved_steps) >= 2:
        meet()
    return digits_run.digits(completion, reference)


@dataclasses.dataclass(frozen=True)
class Faulty(digits_run.Digits):
    """The task with that reward in one process."""

    @property
    def objectives(self):
        if jax.process_index() != PROCESS:
            return super().objectives
        return {**super().objectives, "digits": digits}


def get_config():
    config = dataclasses.replace(digits_run.SPREAD, task=Faulty(), num_steps=60)
    if jax.process_index() == PROCESS:
        _patch()
    mock.patch.object(loop, "plot_run", return_value=[]).start()
    return config


def _patch() -> None:
    """Counts steps, and meets the fault while compiling or saving."""
    save, announced = Checkpoints.save, compiling._announced

    def save_then_meet(self, step, *arguments, **named):
        saved_steps.append(step)
        is_moment = os.environ["MOMENT"] == "save" and step == 6
        if is_moment and os.environ["FAULT"] == "disk":
            meet()
        save(self, step, *arguments, **named)
        if is_moment and os.environ["FAULT"] != "disk":
            meet()

    def compile_and_meet(function, name, display):
        def call(*arguments):
            if os.environ["MOMENT"] == "compile" and name == "the update":
                if os.environ["FAULT"] == "raise":
                    meet()
                threading.Timer(0.2, meet).start()
            return function(*arguments)

        return announced(call, name, display)

    mock.patch.object(Checkpoints, "save", save_then_meet).start()
    mock.patch.object(compiling, "_announced", compile_and_meet).start()
