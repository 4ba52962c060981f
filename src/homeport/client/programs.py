"""Running a program: the only door to processes.

Holds: a program gets the words, the environment and the standard input that it is given and nothing else, no shell
between; it is over when `run_program` is, whatever ended that (its deadline, too much output, our own end by
cancellation): then it and everything it started in its process group were killed, and it is no zombie.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from homeport.client.errors import ClientError
from homeport.clock import Clock

OUTPUT_BYTES_MAX = 1024 * 1024

_STDOUT, _STDERR = 1, 2


class ProgramMissing(ClientError):
    """The program is not there, or this user may not start it."""


class ProgramStuck(ClientError):
    """The program did not end in its time, or wrote more than anybody wants to read. It was killed."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a program left that ended by itself: `code` is its exit code, or minus the signal that killed it."""

    code: int
    stdout: bytes = field(repr=False)  # Both may hold secrets.
    stderr: bytes = field(repr=False)


async def run_program(
    clock: Clock,
    argv: Sequence[str],
    *,
    environ: Mapping[str, str],
    stdin: bytes = b"",
    seconds: float,
    bytes_max: int = OUTPUT_BYTES_MAX,
) -> Finished:
    """Runs `argv` until it ends and has closed its output; a program that is a bare name is looked for on its own PATH.

    At most `seconds` long, and at most `bytes_max` of standard output and error together. Raises `ProgramMissing`,
    `ProgramStuck`. A code other than 0 is for the caller to judge. Nothing secret belongs in `argv`: everybody on the
    machine can read it.
    """
    conversation = _Conversation(bytes_max)
    # A session of its own is also a process group of its own, and Ctrl-C at our terminal is ours to act on.
    starting = asyncio.ensure_future(
        asyncio.get_running_loop().subprocess_exec(
            lambda: conversation, *argv, env=dict(environ), start_new_session=True
        )
    )
    try:
        async with clock.timeout(seconds):
            await asyncio.wait({starting})  # To cancel it halfway would leave a process that nobody knows of.
            transport, _ = starting.result()
            _feed(transport, stdin)
            await conversation.settled.wait()
    except TimeoutError:
        raise ProgramStuck(f"the program {argv[0]} did not end within {seconds:g} seconds") from None
    except OSError as error:
        raise ProgramMissing(f"the program {argv[0]} cannot be started: {error.strerror}") from None
    finally:
        await asyncio.wait({starting})
        if starting.exception() is None:
            await _end(starting.result()[0], conversation)
    if conversation.has_said_too_much:
        raise ProgramStuck(f"the program {argv[0]} wrote more than {bytes_max} bytes")
    code = transport.get_returncode()
    if code is None:
        raise RuntimeError("a program that is over has a code")
    return Finished(code, bytes(conversation.output[_STDOUT]), bytes(conversation.output[_STDERR]))


async def _end(transport: asyncio.SubprocessTransport, conversation: _Conversation) -> None:
    if not conversation.over.is_set():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(transport.get_pid(), signal.SIGKILL)
    transport.close()
    await conversation.over.wait()


def _feed(transport: asyncio.SubprocessTransport, stdin: bytes) -> None:
    # uvloop's pipes do what asyncio's do, but are of no class of asyncio's.
    pipe = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))
    if not pipe.is_closing():  # It need not read, and may be gone already: its code tells.
        pipe.write(stdin)
        pipe.write_eof()


class _Conversation(asyncio.SubprocessProtocol):
    """What a program says, kept up to a limit."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.output = {_STDOUT: bytearray(), _STDERR: bytearray()}
        self.has_said_too_much = False
        #: There is nothing more to wait for.
        self.settled = asyncio.Event()
        #: It ended, was waited for, and all pipes are closed.
        self.over = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output[fd] += data
        if sum(map(len, self.output.values())) > self._bytes_max:
            self.has_said_too_much = True
            self.settled.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's)
        self.settled.set()
        self.over.set()
