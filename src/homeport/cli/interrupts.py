"""Ctrl-C and SIGTERM while something is followed that should end in order."""

from __future__ import annotations

import asyncio
import signal
from types import TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While this is open, each of them cancels the task that opened it, rather than breaking in at any place.

    Use it as a context manager; call `go_on` where the cancellation was caught.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._last = 0
        self._count = 0

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._loop.add_signal_handler(number, self._came, number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number in _SIGNALS:
            self._loop.remove_signal_handler(number)

    @property
    def urgent(self) -> bool:
        """Whether it is more than one Ctrl-C."""
        return self._count > 1 or self._last == signal.SIGTERM

    @property
    def exit_code(self) -> int:
        """As a shell has it for what a signal ended."""
        return 128 + self._last

    def go_on(self) -> None:
        """Do not end yet although it was asked for."""
        assert self._task is not None
        while self._task.cancelling():
            self._task.uncancel()

    def _came(self, number: int) -> None:
        assert self._task is not None
        self._last = number
        self._count += 1
        self._task.cancel()
