"""Progress of a job: a bar on a terminal, plain lines elsewhere, nothing with `--json`.

What draws the bar is imported where there is one: that takes longer than a verb that asks a server for something.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.filesize import decimal

from homeport.cli.output import Output
from homeport.clock import Clock

if TYPE_CHECKING:
    from homeport.cli.progress_bar import Bar

#: Without a terminal, how far a job is is told no more often.
_LINE_SECONDS = 10.0


class JobProgress:
    """Shows what a job says and how far it is. Use it as a context manager.

    Its lines are what was asked for and go to standard output; how far it is goes to standard error.
    """

    def __init__(self, output: Output, clock: Clock) -> None:
        self._output = output
        self._clock = clock
        self._bar: Bar | None = None
        #: When a line last told how far it is, and what that line was.
        self._told_at, self._told = clock.monotonic(), ""

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self._output.as_json:
            from homeport.cli.progress_bar import Bar

            self._bar = Bar()
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def said(self, text: str) -> None:
        """A line of the job's log."""
        if self._output.as_json:
            return
        if self._bar is not None and self._output.to_terminal:
            self._bar.line(text)
        else:
            self._output.line(text)

    def moved(self, job: Mapping[str, Any]) -> None:
        """How far the job is now."""
        progress = job["progress"]
        text = f"{job['kind']}: {(progress and progress['text']) or job['state']}"
        moved = amount(progress) if progress else ""
        if self._bar is not None:
            done, total = (progress["done"], progress["total"]) if progress else (0, None)
            self._bar.move(text, moved, done, total)
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
