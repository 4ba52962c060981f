"""Progress of a job: a bar on a terminal, plain lines elsewhere, nothing with `--json`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from homeport.cli.output import Output, printable
from homeport.clock import Clock

#: Without a terminal, how far a job is is told no more often.
_LINE_SECONDS = 10.0


class JobProgress:
    """Shows what a job says and how far it is. Use it as a context manager.

    Its lines are what was asked for and go to standard output; how far it is goes to standard error.
    """

    def __init__(self, output: Output, clock: Clock) -> None:
        self._output = output
        self._clock = clock
        self._console = Console(file=sys.stderr)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[amount]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=output.as_json or not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        #: When a line last told how far it is, and what that line was.
        self._told_at, self._told = clock.monotonic(), ""

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def said(self, text: str) -> None:
        """A line of the job's log."""
        if self._output.as_json:
            return
        if self._bars.disable or not self._output.to_terminal:
            self._output.line(text)
        else:  # Above the bar, which is on the same terminal.
            self._console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def moved(self, job: Mapping[str, Any]) -> None:
        """How far the job is now."""
        progress = job["progress"]
        text = f"{job['kind']}: {(progress and progress['text']) or job['state']}"
        moved = amount(progress) if progress else ""
        if not self._bars.disable:
            if self._task is None:
                self._task = self._bars.add_task(text, total=None, amount=moved)
            total, done = (progress["total"], progress["done"]) if progress else (None, 0)
            self._bars.update(self._task, description=printable(text), total=total, completed=done, amount=moved)
        elif not self._output.as_json and self._clock.monotonic() - self._told_at >= _LINE_SECONDS:
            line = f"{text} {moved}".rstrip()
            if line != self._told:
                self._told_at, self._told = self._clock.monotonic(), line
                self._output.note(line)


def amount(progress: Mapping[str, Any]) -> str:
    """How far that is, such as `3 of 10 images`."""
    done, total, unit = progress["done"], progress["total"], progress["unit"]
    if unit == "bytes":
        return decimal(int(done)) + ("" if total is None else f" of {decimal(int(total))}")
    return f"{done:g}" + ("" if total is None else f" of {total:g}") + (f" {unit}" if unit else "")
