"""Running programs: real ones, that hang, flood, ignore signals, or leave children behind."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from homeport.client.programs import Finished, ProgramMissing, ProgramStuck, run_program
from homeport.clock import SystemClock

CLOCK = SystemClock()
ENVIRON = {"PATH": os.environ["PATH"]}
#: Long enough for any machine to start a shell.
GENEROUS = 60.0


async def shell(script: str, *, stdin: bytes = b"", seconds: float = GENEROUS, bytes_max: int = 100_000) -> Finished:
    return await run_program(
        CLOCK, ("/bin/sh", "-c", script), environ=ENVIRON, stdin=stdin, seconds=seconds, bytes_max=bytes_max
    )


def is_running(pid: int) -> bool:
    """Whether the process runs; a zombie of ours counts as well."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text() or os.getpgid(pid) == os.getpgid(0)
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GENEROUS
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def written_pids(file: Path, count: int) -> list[int]:
    await until(lambda: file.exists() and len(file.read_text().split()) == count)
    return [int(word) for word in file.read_text().split()]


async def test_what_a_program_gets_and_gives() -> None:
    finished = await run_program(
        CLOCK,
        (sys.executable, "-c", "import os,sys; print(sys.stdin.read(), sorted(os.environ), sys.argv[1:])", "$HOME; ls"),
        environ={"ONLY": "this", "LC_CTYPE": "C.UTF-8"},
        stdin=b"fed",
        seconds=GENEROUS,
    )
    assert finished == Finished(0, b"fed ['LC_CTYPE', 'ONLY'] ['$HOME; ls']\n", b"")
    finished = await shell("echo out; echo err >&2; exit 3")
    assert (finished.code, finished.stdout, finished.stderr) == (3, b"out\n", b"err\n")
    assert (await shell("kill -9 $$")).code == -9
    assert "out" not in repr(finished)


async def test_a_large_input_is_fed_whole_and_need_not_be_read() -> None:
    large = b"x" * 3_000_000
    assert (await shell("wc -c", stdin=large)).stdout.strip() == b"3000000"
    assert (await shell("exec 0<&-; echo done", stdin=large)).stdout == b"done\n"


async def test_programs_that_cannot_be_started(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("#!/nowhere/interpreter\n")
    text.chmod(0o755)
    for program in ("no-such-program", str(tmp_path), str(text), str(tmp_path / "missing")):
        with pytest.raises(ProgramMissing, match="cannot be started: "):
            await run_program(CLOCK, (program,), environ=ENVIRON, seconds=GENEROUS)


async def test_a_bare_name_is_looked_for_on_the_path_that_is_given(tmp_path: Path) -> None:
    program = tmp_path / "only-here"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    finished = await run_program(CLOCK, ("only-here",), environ={"PATH": str(tmp_path)}, seconds=GENEROUS)
    assert finished.stdout == b"found\n"


async def test_at_its_deadline_a_program_is_killed_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM INT HUP; sleep 1000 & echo $$ $! > {pids}; while :; do wait; done"
    with pytest.raises(ProgramStuck, match=r"did not end within 0\.5 seconds"):
        await shell(script, seconds=0.5)
    if pids.exists():  # a busy machine may not have got that far
        for pid in await written_pids(pids, 2):
            await until(lambda pid=pid: not is_running(pid))  # type: ignore[misc]


async def test_a_child_that_keeps_the_output_open_ends_with_the_deadline(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with pytest.raises(ProgramStuck, match="did not end"):
        await shell(f"sleep 1000 & echo $! > {pids}", seconds=0.5)
    if pids.exists():
        [pid] = await written_pids(pids, 1)
        await until(lambda: not is_running(pid))


@pytest.mark.parametrize("stream", [1, 2])
async def test_too_much_output_ends_it(stream: int) -> None:
    with pytest.raises(ProgramStuck, match="wrote more than 1000 bytes"):
        await shell(f"cat /dev/zero >&{stream}", bytes_max=1000)


async def test_whoever_is_cancelled_leaves_nothing_behind(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    task = asyncio.create_task(shell(f"sleep 1000 & echo $$ $! > {pids}; wait"))
    started = await written_pids(pids, 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not Path(f"/proc/{started[0]}").exists(), "a zombie"
    await until(lambda: not any(map(is_running, started)))


@pytest.mark.parametrize("turns", range(12))
async def test_it_may_be_cancelled_at_any_moment(tmp_path: Path, turns: int) -> None:
    pids = tmp_path / "pids"
    task = asyncio.create_task(shell(f"sleep 1000 & echo $! > {pids}; wait"))
    for _ in range(turns):
        await asyncio.sleep(0)
    if turns:
        time.sleep(0.02)  # the program gets on, and our loop does not
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    if pids.exists() and pids.read_text():
        pid = int(pids.read_text())
        await until(lambda: not is_running(pid))


async def test_many_at_once_leave_no_zombie() -> None:
    finished = await asyncio.gather(*(shell(f"exit {number}") for number in range(20)))
    assert [each.code for each in finished] == list(range(20))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


ENDED_BY_SIGNAL = """
import asyncio, signal
from homeport.client.programs import run_program
from homeport.clock import SystemClock

async def main():
    task = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # as a server does
    script = "trap '' TERM; sleep 1000 & echo $$ $! > {pids}; while :; do wait; done"
    await run_program(SystemClock(), ("/bin/sh", "-c", script), environ={{}}, seconds=1000)

asyncio.run(main())
"""


async def test_sigterm_to_us_leaves_no_orphan(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    ours = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ENDED_BY_SIGNAL.format(pids=pids), stderr=asyncio.subprocess.DEVNULL
    )
    started = await written_pids(pids, 2)
    ours.send_signal(signal.SIGTERM)
    await ours.wait()
    await until(lambda: not any(map(is_running, started)))
