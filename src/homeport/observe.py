"""What the program says of itself while it runs: structured log lines and counters.

Holds: one line is one JSON object (or one plain line); no secret is ever handed to this module; what strangers wrote
is escaped, so it can't forge a line. Lines below `warning` may wait a tenth of a second so that a busy server writes
many at once; whoever owns the loop calls `flush`.
"""

from __future__ import annotations

import contextlib
import json
from bisect import bisect_left
from collections.abc import Callable, Mapping
from enum import IntEnum
from io import TextIOBase
from typing import TextIO

from homeport.clock import Clock


class Level(IntEnum):
    """How much a line matters."""

    INFO = 20
    WARNING = 30
    ERROR = 40


#: Lines that wait at most; more are written at once.
WAITING_MAX = 512

_quote: Callable[[str], str] = json.encoder.encode_basestring_ascii

#: The line of a request, as JSON and as text. `error` is the code that the client was told, or null.
_REQUEST_JSON = (
    '{"time":%.6f,"level":"info","event":"request","id":"%s","method":%s,"path":%s,"status":%d,"bytes":%d,'
    '"seconds":%.6f,"address":%s,"actor":%s,"error":%s}\n'
)
_REQUEST_TEXT = (
    'time=%.6f level="info" event="request" id="%s" method=%s path=%s status=%d bytes=%d'
    " seconds=%.6f address=%s actor=%s error=%s\n"
)


class Log:
    """A stream of log lines."""

    def __init__(
        self, stream: TextIO | TextIOBase, clock: Clock, *, level: Level = Level.INFO, as_json: bool = True
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._as_json = as_json
        self._waiting: list[str] = []
        self.level = level

    def info(self, event: str, **fields: object) -> None:
        self.write(Level.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self.write(Level.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        self.write(Level.ERROR, event, fields)

    def request(
        self,
        request_id: str,
        *,
        method: str,
        path: str,
        status: int,
        body_bytes: int,
        seconds: float,
        address: str,
        actor: str,
        error: str | None,
    ) -> None:
        """Write the line of a request. A busy server writes this one most, so it is a template."""
        if self.level > Level.INFO:
            return
        self._waiting.append(
            (_REQUEST_JSON if self._as_json else _REQUEST_TEXT)
            % (
                self._clock.now(),
                request_id,
                _quote(method),
                _quote(path),
                status,
                body_bytes,
                seconds,
                _quote(address),
                _quote(actor),
                _quote(error) if error is not None else "null",
            )
        )
        if len(self._waiting) >= WAITING_MAX:
            self.flush()

    def write(self, level: Level, event: str, fields: Mapping[str, object]) -> None:
        """Write a line, or let it wait for the next `flush`."""
        if level < self.level:
            return
        values = {"time": self._clock.now(), "level": level.name.lower(), "event": event, **fields}
        if self._as_json:
            line = "{" + ",".join(f"{_quote(key)}:{_value(value)}" for key, value in values.items()) + "}\n"
        else:
            line = " ".join(f"{key}={_value(value)}" for key, value in values.items()) + "\n"
        self._waiting.append(line)
        if level >= Level.WARNING or len(self._waiting) >= WAITING_MAX:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            lines, self._waiting = self._waiting, []
            # A log that is on a full disk, or whose reader has gone, must not keep the registry from its work.
            with contextlib.suppress(OSError, ValueError):
                self._stream.write("".join(lines))
                self._stream.flush()


def _value(value: object) -> str:
    return _quote(value) if isinstance(value, str) else json.dumps(value, default=str)


#: Upper ends of the buckets of `homeport_request_seconds`.
SECONDS_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 300.0)


class _Requests:
    """The requests of one route, method and status."""

    __slots__ = ("buckets", "count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(SECONDS_BUCKETS) + 1)


class Counters:
    """What is counted for `/metrics`. Only the event loop's thread touches it."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int], _Requests] = {}

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request. There are few routes, methods and statuses, so this stays small."""
        requests = self._requests.get((route, method, status))
        if requests is None:
            requests = self._requests[route, method, status] = _Requests()
        requests.count += 1
        requests.seconds += seconds
        requests.buckets[bisect_left(SECONDS_BUCKETS, seconds)] += 1

    def exposition(self, gauges: Mapping[str, float]) -> str:
        """Everything in Prometheus' text format, with gauges that were measured just now."""
        name = "homeport_request_seconds"
        lines = [f"# HELP {name} Time from a request's headers to the end of its answer.", f"# TYPE {name} histogram"]
        for (route, method, status), requests in sorted(self._requests.items()):
            labels = f'route="{route}",method="{method}",status="{status}"'
            cumulative = 0
            for end, count in zip((*SECONDS_BUCKETS, "+Inf"), requests.buckets, strict=True):
                cumulative += count
                lines.append(f'{name}_bucket{{{labels},le="{end}"}} {cumulative}')
            lines.append(f"{name}_sum{{{labels}}} {requests.seconds:.6f}")
            lines.append(f"{name}_count{{{labels}}} {requests.count}")
        for gauge, value in sorted(gauges.items()):
            lines += [f"# TYPE homeport_{gauge} gauge", f"homeport_{gauge} {value:.17g}"]
        return "\n".join(lines) + "\n"
