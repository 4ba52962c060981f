"""How fast, and by how many at once, one upstream registry is asked.

A `Pace` is what the upstream sees of us as a whole: requests and bytes a second, and the pauses that it asked for. A
`Gate` is the way to it for one purpose, with places of its own: a night's run may take all of its places and people's
pulls still find theirs, though both keep to one pace.

Holds: nobody waits by looking again and again; who is cancelled while waiting takes nothing and lets the next one go;
of each gate one request at a time waits for the pace, so none waits behind more than one of another gate.
"""

from __future__ import annotations

import asyncio

from homeport.clock import Clock

#: A host may keep us away for this long at most; a date that is far in the future must not close it for good.
PAUSE_SECONDS_MAX = 3600.0
#: The pause that we make when it does not say how long it wants one: doubling while it goes on to complain.
GROWING_PAUSE_SECONDS_FIRST = 1.0
GROWING_PAUSE_SECONDS_MAX = 300.0


class Paused(Exception):
    """The upstream wants to be left alone for longer than the caller waits."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        #: From now.
        self.seconds = seconds


class Pace:
    """What one upstream is given to do. The two rates may be changed at any time."""

    def __init__(
        self, clock: Clock, *, requests_per_second: float | None = None, bytes_per_second: float | None = None
    ) -> None:
        self.requests_per_second = requests_per_second
        self.bytes_per_second = bytes_per_second
        self._clock = clock
        #: By the monotonic clock, as all that follow.
        self._next_request_at = 0.0
        self._next_bytes_at = 0.0
        self._paused_until = 0.0
        self._growing_seconds = GROWING_PAUSE_SECONDS_FIRST / 2

    @property
    def paused_seconds(self) -> float:
        """For how long nobody asks; 0 if anybody may."""
        return max(0.0, self._paused_until - self._clock.monotonic())

    def pause_until(self, monotonic: float) -> None:
        """Nobody asks before. A pause is never made shorter."""
        latest = self._clock.monotonic() + PAUSE_SECONDS_MAX
        self._paused_until = max(self._paused_until, min(monotonic, latest))

    def too_fast(self, asked_seconds: float | None) -> None:
        """The upstream says so, and perhaps for how long it wants to be left alone.

        If it does not, or names a moment that is over, it is left alone ever longer.
        """
        if self.paused_seconds == 0:  # or else this answers what was asked before the pause
            self._growing_seconds = min(GROWING_PAUSE_SECONDS_MAX, self._growing_seconds * 2)
        self.pause_until(self._clock.monotonic() + (asked_seconds or self._growing_seconds))

    def fast_enough(self) -> None:
        """The upstream answered as it should."""
        if self.paused_seconds == 0:
            self._growing_seconds = GROWING_PAUSE_SECONDS_FIRST / 2

    async def turn(self, longest_pause_seconds: float) -> None:
        """Returns when the next request may go out; `Paused` if that is not soon."""
        while True:
            if self.paused_seconds > longest_pause_seconds:
                raise Paused(self.paused_seconds)
            now = self._clock.monotonic()
            begin = max(self._paused_until, self._next_request_at)
            if begin <= now:
                break
            await self._clock.sleep(begin - now)
        if self.requests_per_second is not None:
            self._next_request_at = now + 1 / self.requests_per_second

    async def bytes_turn(self) -> None:
        """Returns when the next bytes of a blob may come."""
        if self.bytes_per_second is not None:
            seconds = self._next_bytes_at - self._clock.monotonic()
            if seconds > 0:
                await self._clock.sleep(seconds)

    def moved(self, count: int) -> None:
        """So many bytes of a blob came."""
        if self.bytes_per_second is not None:
            now = self._clock.monotonic()
            self._next_bytes_at = max(self._next_bytes_at, now) + count / self.bytes_per_second


class Gate:
    """The way to an upstream for one purpose: at most `at_once` requests, or any number, at the upstream's pace."""

    def __init__(self, pace: Pace, *, at_once: int | None = None) -> None:
        self.pace = pace
        self._places = asyncio.Semaphore(at_once) if at_once is not None else None
        self._next = asyncio.Lock()

    async def enter(self, longest_pause_seconds: float) -> None:
        """Returns when a request may go out; then `leave` ends it. `Paused` as `Pace.turn` raises it."""
        if self._places is not None:
            await self._places.acquire()
        try:
            async with self._next:
                await self.pace.turn(longest_pause_seconds)
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """The request is over, and so is its answer."""
        if self._places is not None:
            self._places.release()
