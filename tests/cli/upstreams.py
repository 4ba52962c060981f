"""A scripted upstream beside the command line, which has a loop of its own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.mirror.upstream import Upstream


@contextmanager
def running() -> Iterator[Upstream]:
    """One that answers from another thread until the block ends; what it holds may be changed meanwhile."""
    upstream, ready, loop = Upstream(), threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        await upstream.up()
        ready.set()
        await over.wait()
        await upstream.down()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        ready.wait()
        yield upstream
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()
