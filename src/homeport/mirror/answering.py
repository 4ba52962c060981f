"""Which upstreams answer, as one run finds it out: one that does not is not asked again for each of its tags.

Holds: an upstream that says no is one that answers; a single request that fails keeps nobody from asking for the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from homeport.client.errors import ClientError, ConnectionFailed, Limit, Refused

#: So many requests in a row that came to nothing, each tried as often as patience allows, are a host that is down.
FAILURES_MAX: Final = 16


class Answering:
    """What one run knows of the hosts that it asks."""

    def __init__(self) -> None:
        #: Those that are not asked any more, with what was last heard.
        self._down: dict[str, str] = {}
        self._failures: Counter[str] = Counter()

    def check(self, host: str) -> None:
        """Raise `ConnectionFailed` where the host is not to be asked any more."""
        if host in self._down:
            raise ConnectionFailed(self._down[host], temporary=True)

    @contextmanager
    def asking(self, host: str) -> Iterator[None]:
        """The host is asked something while this lasts, unless it is not to be; what it fails with counts."""
        self.check(host)
        try:
            yield
        except ClientError as error:
            self.failed(host, error)
            raise

    def answered(self, host: str) -> None:
        """It did."""
        self._failures[host] = 0

    def failed(self, host: str, error: BaseException) -> None:
        """A request came to nothing; the error's causes count, too."""
        reason = _reason(error)
        if reason is None:
            return
        self._failures[host] += 1
        too_fast = isinstance(reason, Refused) and reason.limit is Limit.REQUESTS
        if too_fast or self._failures[host] >= FAILURES_MAX:
            self._down.setdefault(host, str(reason))


def _reason(error: BaseException | None) -> ConnectionFailed | Refused | None:
    """What in the error and its causes says that the host does not answer; None: it does, or it is about us."""
    while error is not None:
        if isinstance(error, ConnectionFailed):
            return error
        if isinstance(error, Refused) and (error.limit is Limit.REQUESTS or error.status >= 500):
            return error
        error = error.__cause__
    return None
