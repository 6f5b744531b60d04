"""Limits on time and memory, of one test and of all tests of a program."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """Resource limits of a program and of the tests that call it.

    Attributes:
        cpu_seconds: processor time of one test, for the program and for the test each.
        wall_seconds: time of one test from start to verdict, including waiting.
        memory_bytes: address space, for the program and for the test each.
        message_bytes: size of one returned value as JSON.
        problem_seconds: time for all tests of one program together, including waiting; tests that
            have not passed by then fail.

    Raises:
        ValueError: one of them is not positive.
    """

    cpu_seconds: int = 4
    wall_seconds: float = 12.0
    memory_bytes: int = 2**29
    message_bytes: int = 2**20
    problem_seconds: float = 20.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"{field.name}={getattr(self, field.name)} must be positive")

    def for_process(self) -> dict[str, int]:
        """The limits of one process, arguments of `confinement.set_resource_limits`."""
        return {"cpu_seconds": self.cpu_seconds, "memory_bytes": self.memory_bytes}


DEFAULT_LIMITS = Limits()
