"""The machine's own clock."""

from __future__ import annotations

import asyncio
import threading
import weakref

import pytest

from homeport.clock import SystemClock, rfc3339


def test_time_goes_on() -> None:
    clock = SystemClock()
    assert clock.now() > 1_767_225_600  # 2026
    first = clock.monotonic()
    assert clock.monotonic() >= first


def test_a_time_as_json_has_it() -> None:
    assert rfc3339(1_769_846_400.25) == "2026-01-31T08:00:00.250000Z"
    assert rfc3339(1_769_846_400) == "2026-01-31T08:00:00Z"
    assert rfc3339(None) is None


def test_ids_are_of_their_form_and_never_the_same() -> None:
    clock = SystemClock()
    ids = {clock.new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(each) == 32 and int(each, 16) >= 0 and each == each.lower() for each in ids)
    assert len(clock.random_bytes(7)) == 7
    assert all(0 <= clock.random() < 1 for _ in range(1000))


async def test_sleeping_takes_as_long_as_it_was_told() -> None:
    clock = SystemClock()
    began = clock.monotonic()
    await clock.sleep(0.01)
    assert clock.monotonic() - began >= 0.009


async def test_a_time_out_cancels_and_says_so() -> None:
    clock = SystemClock()
    with pytest.raises(TimeoutError):
        async with clock.timeout(0.01):
            await asyncio.Event().wait()
    async with clock.timeout(60):
        pass


async def test_threads_return_and_raise() -> None:
    threads = SystemClock().threads("test", 2)
    assert await threads.run(divmod, 7, 2) == (3, 1)
    assert await threads.run(int, "ff", base=16) == 255
    assert (await threads.run(threading.current_thread)).name.startswith("test")
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 1, 0)
    threads.close()


@pytest.mark.parametrize("error", [StopIteration, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
async def test_whatever_a_job_raises_its_caller_goes_on(error: type[BaseException]) -> None:
    def job() -> None:
        raise error

    threads = SystemClock().threads("test", 1)
    async with asyncio.timeout(20):
        with pytest.raises(RuntimeError if error is StopIteration else error):
            await threads.run(job)
        assert await threads.run(int, "7") == 7
    threads.close()


async def test_a_thread_does_one_job_after_the_other() -> None:
    threads = SystemClock().threads("test", 1)
    done: list[int] = []
    await asyncio.gather(*(threads.run(done.append, number) for number in range(500)))
    assert done == [*range(500)]
    threads.close()


async def test_what_a_job_was_given_is_let_go_of() -> None:
    """A thread that waits for its next job holds nothing of the last one."""

    class Held:
        pass

    threads = SystemClock().threads("test", 1)
    held = Held()
    gone = weakref.ref(held)
    await threads.run(repr, held)
    del held
    await threads.run(int)
    assert gone() is None
    threads.close()


async def test_there_are_as_many_threads_as_were_asked_for() -> None:
    threads = SystemClock().threads("test", 3)
    together = threading.Barrier(3, timeout=20)
    await asyncio.gather(*(threads.run(together.wait) for _ in range(3)))
    names = await asyncio.gather(*(threads.run(lambda: threading.current_thread().name) for _ in range(50)))
    assert len(set(names)) <= 3
    threads.close()


async def test_cancelling_the_caller_does_not_stop_what_has_begun() -> None:
    threads = SystemClock().threads("test", 1)
    begun, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def job() -> None:
        begun.set()
        go_on.wait(20)
        done.append("done")

    caller = asyncio.ensure_future(threads.run(job))
    await asyncio.to_thread(begun.wait, 20)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert done == []
    go_on.set()
    threads.close()  # waits
    assert done == ["done"]
    with pytest.raises(RuntimeError):
        await threads.run(done.append, "too late")
