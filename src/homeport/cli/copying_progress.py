"""Progress of a copy: bars on a terminal, plain lines elsewhere, nothing with `--json`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from homeport.cli.output import Output
from homeport.client.copying import Observer
from homeport.client.uploads import Outcome
from homeport.oci.digest import Digest
from homeport.oci.manifest import Descriptor

_WORDS = {Outcome.PRESENT: "is there already", Outcome.MOUNTED: "mounted", Outcome.SENT: "sent"}


class CopyProgress(Observer):
    """Shows how a copy gets on, on standard error. Use it as a context manager."""

    def __init__(self, output: Output) -> None:
        self._output = output
        console = Console(file=sys.stderr)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=output.as_json or not console.is_terminal,
        )
        self._tasks: dict[Digest, TaskID] = {}
        self._lines = not output.as_json and not console.is_terminal

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def planned(self, blobs: Sequence[Descriptor]) -> None:
        if self._lines:
            self._output.note(f"{len(blobs)} blobs, {sum(blob.size for blob in blobs)} bytes")

    def blob_moved(self, blob: Descriptor, position: int) -> None:
        if blob.digest not in self._tasks:
            self._tasks[blob.digest] = self._bars.add_task(_short(blob), total=blob.size)
        self._bars.update(self._tasks[blob.digest], completed=position)

    def blob_done(self, blob: Descriptor, outcome: Outcome) -> None:
        if self._lines:
            self._output.note(f"{_short(blob)} {_WORDS[outcome]} ({blob.size} bytes)")


def _short(blob: Descriptor) -> str:
    return f"{blob.role} {blob.digest.encoded[:12]}"
