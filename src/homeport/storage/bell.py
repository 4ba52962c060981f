"""A bell in the data folder for who has a role there: whoever has left work rings it, and it is begun at once.

Holds: it is a hint and no more. To ring never waits and never fails; a bell that is not heard (none hangs, its queue is
full, the folder came over a network) only means that the work waits for the next look.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from homeport.storage.datafolder import give_to_owner

#: How often one that rings without end is heard before others have their turn.
_HEARD_AT_ONCE: Final = 100


def ring(folder: Path, role: str) -> None:
    """Ring the bell of who has the role, if one hangs."""
    with (
        contextlib.suppress(OSError),
        _address(folder, role) as address,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as caller,
    ):
        caller.sendto(b"", address)


@contextlib.contextmanager
def hung(folder: Path, role: str, rung: Callable[[], None]) -> Iterator[None]:
    """Have the bell of a role, which this process has, and call `rung` in the running loop whenever it was rung.

    Raises `OSError` where none can hang, such as on a file system that has no sockets.
    """
    loop = asyncio.get_running_loop()
    path = folder / _name(role)
    with _address(folder, role) as address, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        path.unlink(missing_ok=True)  # That of a process that was killed.
        bell.setblocking(False)
        # Before it has a name: the file gets the socket's mode, and what has that name may be another thing soon.
        os.fchmod(bell.fileno(), 0o600)
        bell.bind(address)
        try:
            give_to_owner(path)
            loop.add_reader(bell, _hear, bell, rung)
            try:
                yield
            finally:
                loop.remove_reader(bell)
        finally:
            path.unlink(missing_ok=True)


def _hear(bell: socket.socket, rung: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        for _ in range(_HEARD_AT_ONCE):
            bell.recv(1)
    rung()


def _name(role: str) -> str:
    return f"{role}.bell"


@contextlib.contextmanager
def _address(folder: Path, role: str) -> Iterator[str]:
    """A name of the socket that is short enough (unix(7): 107 bytes), however long the folder's is."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{_name(role)}"
    finally:
        os.close(handle)
