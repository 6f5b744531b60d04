"""How a run executes the programs of completions."""

import dataclasses
from typing import Literal

from dvaojax.rewards.addresses import check_address

WITHOUT_SANDBOX = (
    "rewards.programs.isolation=process: programs run as ordinary processes of this user with "
    "limits on time and memory only; they can read and delete files, use the network and signal "
    "other processes, so use it only where nothing of value can be reached"
)


@dataclasses.dataclass(frozen=True)
class ProgramsConfig:
    """How programs are executed, apart from the limits that belong to a task.

    Attributes:
        isolation: "bubblewrap" runs each program in its own namespaces: no network, no other
            processes, a read-only system without this user's files, nothing that can be written.
            "process" runs it as an ordinary process with limits on time, memory and written files.
            It contains mistakes, but does not protect against a program that means harm: such a
            program reads and deletes files, reads the expected values in the memory of other
            processes, uses the network, and ends other processes, this one included.
        server: URL of a server with Sandbox Fusion's `/run_code`, which then runs the programs
            instead of this machine; empty for none. Expected values are not sent to it.
        parallel: number of programs tried at the same time; 0 means two per available processor.
        step_seconds: time for all programs of a batch; the rewards of programs that were not tried
            by then are masked and counted as failures.

    Raises:
        ValueError: a number is out of range, or the server is not an HTTP address without
            password and query.
    """

    isolation: Literal["bubblewrap", "process"] = "bubblewrap"
    server: str = ""
    parallel: int = 0
    step_seconds: float = 300.0

    def __post_init__(self):
        if self.isolation not in ("bubblewrap", "process"):
            raise ValueError(
                f"rewards.programs.isolation={self.isolation!r} is neither 'bubblewrap' nor "
                "'process'"
            )
        if self.parallel < 0:
            raise ValueError(f"rewards.programs.parallel={self.parallel} must not be negative")
        if not self.step_seconds > 0:
            raise ValueError(f"rewards.programs.step_seconds={self.step_seconds} must be positive")
        if self.server:
            check_address(
                "rewards.programs.server",
                self.server,
                example="http://127.0.0.1:8080",
                secret="since this server is asked without any",
            )


DEFAULT_SETTINGS = ProgramsConfig()
