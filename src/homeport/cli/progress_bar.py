"""The bar that shows how far a job is, on a terminal."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from homeport.cli.output import printable


class Bar:
    """A bar on standard error, from `start` to `stop`."""

    def __init__(self) -> None:
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
        )
        self._task: TaskID | None = None

    def start(self) -> None:
        """Draw it from now on."""
        self._bars.start()

    def stop(self) -> None:
        """Let it disappear."""
        self._bars.stop()

    def line(self, text: str) -> None:
        """A line above the bar, where that is on the same terminal."""
        self._console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def move(self, text: str, amount: str, done: float, total: float | None) -> None:
        """Draw it as far as this, with these words before and behind it."""
        if self._task is None:
            self._task = self._bars.add_task(text, total=None, amount=amount)
        self._bars.update(self._task, description=printable(text), total=total, completed=done, amount=amount)
