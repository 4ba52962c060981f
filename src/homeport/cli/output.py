"""What people and scripts see: lines, tables, JSON, progress; and the exit codes.

Holds: with `--json` exactly one JSON document goes to standard output, or one a line where something is followed. What
strangers named (a tag, a user) cannot move the cursor or colour the terminal: control characters are shown as escapes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, TextIO

from homeport.clock import rfc3339


class Exit(IntEnum):
    """What a verb's exit code says."""

    DONE = 0
    FAILED = 1
    WRONG = 2
    PARTLY = 3
    SKIPPED = 4


#: A time as JSON has it. People can do without its fractions of a second.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", re.ASCII)

EXIT_CODES = "0 done, 1 failed, 2 wrong usage or configuration, 3 partly done, 4 skipped"


class CommandError(Exception):
    """A verb could not do what was asked; the text is a sentence with what to do."""

    exit = Exit.FAILED


class WrongUsage(CommandError):
    """The verb was asked for something that cannot be meant."""

    exit = Exit.WRONG


class Output:
    """Standard output and standard error."""

    def __init__(self, stdout: TextIO, stderr: TextIO, *, as_json: bool) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self.as_json = as_json

    @classmethod
    def of_process(cls, *, as_json: bool) -> Output:
        """What this process was started with."""
        return cls(sys.stdout, sys.stderr, as_json=as_json)

    @property
    def to_terminal(self) -> bool:
        """Whether a person reads standard output as it is written, rather than a file or a log."""
        return self._stdout.isatty()

    def line(self, text: str = "") -> None:
        """A line of what was asked for."""
        print(printable(text), file=self._stdout, flush=True)

    def note(self, text: str) -> None:
        """A line beside what was asked for."""
        print(f"homeport: {printable(text)}", file=self._stderr, flush=True)

    def result(self, data: Any, text: str) -> None:
        """What a verb did: `data` for scripts, `text` for people."""
        self.line(json.dumps(data) if self.as_json else text)

    def table(self, rows: Sequence[Mapping[str, Any]], *columns: str, empty: str) -> None:
        """Rows: a JSON list for scripts, aligned columns for people, or the sentence `empty` where there are none."""
        if self.as_json:
            self.line(json.dumps(list(rows)))
            return
        if not rows:
            self.note(empty)
            return
        lines = [[column.upper().replace("_", " ") for column in columns]]
        lines += [[cell(row[column]) for column in columns] for row in rows]
        widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
        for line in lines:
            self.line("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def format_time(seconds: float | None) -> str | None:
    """A time of the database as people and scripts read it, to the second."""
    return None if seconds is None else rfc3339(int(seconds))


def format_days(seconds: float) -> str:
    """A time that is given in days, or hours, as people say it."""
    hours = seconds / 3600
    return f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"


def counted(number: int, thing: str) -> str:
    """Such as `1 image`, `2 images`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def cell(value: Any) -> str:
    """A value as a column shows it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    text = str(value)
    return f"{text[:19]}Z" if _TIME.fullmatch(text) else printable(text)


def printable(text: str) -> str:
    """`text` with its control characters as escapes; line breaks stay."""
    return "".join(
        character if character.isprintable() or character == "\n" else repr(character)[1:-1] for character in text
    )
