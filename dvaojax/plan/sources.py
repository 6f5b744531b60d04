"""Lines of source code that the instructions of a compiled program come from."""

import re
from pathlib import PurePath

from dvaojax.plan.hlo import HloInstruction, HloModule, root

_FRAME = re.compile(r"stack_frame_id=(\d+)")


class Sources:
    """Finds the line of an instruction, of the package named where there is one.

    Args:
        module: the program; its header may list files, locations and stack frames.
        package: name of the folder whose lines are preferred to those of libraries.
    """

    def __init__(self, module: HloModule, package: str = "dvaojax"):
        self._module, self._package = module, package
        self._files = {key: text.strip('"') for key, text in _table(module, "FileNames")}
        self._locations = dict(_table(module, "FileLocations"))
        self._frames = dict(_table(module, "StackFrames"))
        self._lines: dict[int, str] = {}

    def line(self, instruction: HloInstruction) -> str:
        """The line as `file.py:12`; empty if unknown."""
        for each in self._with_parts(instruction):
            frame = _FRAME.search(each.rest)
            if frame and self._files:
                if line := self._frame_line(int(frame.group(1))):
                    return line
            elif direct := re.search(r'source_file="([^"]*)" source_line=(\d+)', each.rest):
                return self._name(direct.group(1), direct.group(2))
        return ""

    def _with_parts(self, instruction: HloInstruction) -> list[HloInstruction]:
        """The instruction, then the last ones of the computations that it calls."""
        called = [self._module.computations[name] for name in self._module.called(instruction)]
        return [instruction, *map(root, called)]

    def _frame_line(self, frame: int) -> str:
        """The innermost line of the package below a stack frame, or else the innermost one."""
        if frame not in self._lines:
            self._lines[frame] = self._search(frame)
        return self._lines[frame]

    def _search(self, frame: int) -> str:
        innermost, visited = "", set()
        while frame in self._frames and frame not in visited:
            visited.add(frame)
            location = self._locations.get(_number("file_location_id", self._frames[frame]), "")
            file = self._files.get(_number("file_name_id", location), "")
            line = self._name(file, str(_number("line", location))) if file else ""
            if self._package in PurePath(file).parts:
                return line
            innermost = innermost or line
            frame = _number("parent_frame_id", self._frames[frame])
        return innermost

    def _name(self, file: str, line: str) -> str:
        """The path below the last folder with the package's name."""
        parts = PurePath(file).parts
        below = len(parts) - 1 - parts[::-1].index(self._package) if self._package in parts else -2
        return f"{'/'.join(parts[below + 1 :])}:{line}"


# Parts of operations' names that say what is around them.
_AROUND = re.compile(r".*\(.*|while|body|cond|branch_\d+_fun|closed_call|checkpoint|jit|remat\d*")


def operation(instruction: HloInstruction) -> str:
    """The name of the JAX operation, without the functions and loops around it; may be empty."""
    name = instruction.attribute(r'op_name="([^"]*)"') or ""
    return "/".join(part for part in name.split("/") if not _AROUND.fullmatch(part))


def _table(module: HloModule, title: str) -> list[tuple[int, str]]:
    """Rows of a table of the program's header: a number and the text after it."""
    lines = module.header.splitlines()
    if title not in lines:
        return []
    rows = []
    for line in lines[lines.index(title) + 1 :]:
        row = re.match(r"(\d+) (.*)", line)
        if row is None:
            break
        rows.append((int(row.group(1)), row.group(2)))
    return rows


def _number(name: str, text: str) -> int:
    match = re.search(rf"\b{name}=(\d+)", text)
    return int(match.group(1)) if match else 0
