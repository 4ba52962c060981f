"""What the tests of access share: a clock that is set by hand, passwords that are cheap and counted."""

import asyncio

from homeport.auth.passwords import Cost, Passwords
from homeport.clock import SystemClock
from homeport.events import Origin

ORIGIN = Origin("test")
ADDRESS = "192.0.2.7"
PASSWORD = "correct horse"
CHEAP = Cost(memory_kib=8, passes=1)


class HandClock(SystemClock):
    """The machine's threads and randomness, and a time that passes only when the test says so."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0
        self.passed = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.passed

    def advance(self, seconds: float) -> None:
        self.time += seconds
        self.passed += seconds


class CountedPasswords(Passwords):
    """Counts what was checked against what, and can hold every check until the test lets it go on."""

    def __init__(self, clock: SystemClock) -> None:
        super().__init__(clock, CHEAP)
        self.checked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def verify(self, password: str, password_hash: str) -> bool:
        self.checked.append(password_hash)
        await self.gate.wait()
        return await super().verify(password, password_hash)
