"""Child processes that are always ended, and what they hold of the machine's memory."""

import contextlib
import os
import re
import resource
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.errors import ServerFailedError

PAGE_BYTES = resource.getpagesize()


class Process:
    """One server: in a process group of its own, ended with all that it started, even if we are killed."""

    def __init__(self, arguments: Sequence[str | Path], *, folder: Path, log: Path) -> None:
        self._log = log
        log.write_bytes(b"")  # of an earlier process on this folder
        with log.open("ab") as sink:
            # setpriv: when this benchmark is killed, the kernel ends what it started.
            self._child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *map(str, arguments)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def log(self) -> str:
        """What it printed since the last `truncate_log`."""
        return self._log.read_text(errors="replace")

    def truncate_log(self) -> None:
        """Bounds the disk that logs take; the log is opened for appending, so writing goes on at the start."""
        os.truncate(self._log, 0)

    def check_alive(self) -> None:
        if self._child.poll() is not None:
            raise ServerFailedError(f"the server ended with {self._child.returncode}:\n{self.log()[-3000:]}")

    def stop(self) -> None:
        """Asks, waits ten seconds, then insists."""
        self._child.terminate()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=10)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()

    def resident_bytes(self) -> int:
        """Resident memory of the process and all its descendants; what two of them share is counted twice."""
        return sum(_resident_bytes(pid) for pid in _tree(self._child.pid))

    def peak_bytes(self) -> int:
        """The most that each of them ever held, added up: what they held at any time is no more."""
        return sum(_peak_bytes(pid) for pid in _tree(self._child.pid))


def _tree(pid: int) -> list[int]:
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            listed = children.read_text().split()
        except OSError:  # a thread that has just ended
            continue
        for child in listed:
            found += _tree(int(child))
    return found


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except OSError:  # it has just ended
        return 0


def _peak_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has just ended
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) << 10 if found else 0
