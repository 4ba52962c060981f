"""A clock whose sleeps take no time and are noted; its time-outs are real, for the sockets are."""

import asyncio

from homeport.clock import SystemClock


class QuickClock(SystemClock):
    def __init__(self) -> None:
        self.slept: list[float] = []
        self.offset = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.offset

    def random(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.offset += seconds
        await asyncio.sleep(0)
