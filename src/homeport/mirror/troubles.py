"""What becomes of it when an upstream is asked and does not give what it was asked for.

Pure. Holds: what clients are told is about the upstream and never about us: no login of ours, no proxy, no address;
those stand in the log. An upstream that wants a login is one that does not have it, never a challenge to the client.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

from homeport.client.errors import BadAnswer, ClientError, ConnectionFailed, Limit, Refused, Untrusted
from homeport.client.retries import TEMPORARY_STATUSES
from homeport.clock import rfc3339
from homeport.mirror.publicity import Untold
from homeport.oci.errors import RegistryError, UpstreamBroken, UpstreamLimited, UpstreamUnavailable
from homeport.upstreams.upstreams import QuotaSpent

#: How long an upstream that did not answer is left alone, so that not every client waits for it in turn; and how long a
#: repository of it is that it said to have trouble with.
DOWN_SECONDS: Final = 10.0
FAILING_SECONDS: Final = 3.0
#: `Retry-After` is at most a day.
RETRY_AFTER_SECONDS_MAX: Final = 86_400

#: What a failing question raises.
Failure: TypeAlias = ClientError | TimeoutError


class Kind(Enum):
    """What is wrong."""

    #: It does not have it, or does not show it to us.
    ABSENT = auto()
    #: It cannot answer just now.
    DOWN = auto()
    #: It gives no more for now.
    LIMITED = auto()
    #: It cannot say, or what it says cannot be.
    BROKEN = auto()
    #: We were told not to ask.
    OFFLINE = auto()


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why an upstream did not give something. `text` goes on after its name: 'does not answer'."""

    host: str
    kind: Kind
    text: str
    retry_after_seconds: float | None = None
    #: Whether it is so for all of its repositories.
    of_host: bool = False

    def __str__(self) -> str:
        return f"{self.host} {self.text}"


class Unanswered(Exception):
    """An upstream did not give what it was asked for."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(str(trouble))
        self.trouble = trouble

    def refusal(self, absent: RegistryError) -> RegistryError:
        """What a client is told where there is nothing here either; `absent`, if upstream does not have it."""
        trouble = self.trouble
        if trouble.kind in {Kind.ABSENT, Kind.OFFLINE}:
            return type(absent)(f"{absent.detail}: {trouble}")
        kinds = {Kind.DOWN: UpstreamUnavailable, Kind.LIMITED: UpstreamLimited, Kind.BROKEN: UpstreamBroken}
        wait = trouble.retry_after_seconds
        seconds = None if wait is None else min(RETRY_AFTER_SECONDS_MAX, math.ceil(wait))
        return kinds[trouble.kind](str(trouble), retry_after_seconds=seconds)

    def warning(self, known_at: float | None) -> str:
        """What is said to a client that gets what is here. `known_at`: when it was last known to be upstream's."""
        if known_at is None:
            return f"{self.trouble}; served as it is here"
        return f"{self.trouble}; served as it was at {rfc3339(math.floor(known_at))}"


def of(error: Failure, host: str) -> Trouble:
    """What the failure means."""
    match error:
        case Refused(status=401 | 403):
            return Trouble(host, Kind.ABSENT, "does not show it")
        case Refused(status=404):
            return Trouble(host, Kind.ABSENT, "does not have it")
        case QuotaSpent() | Refused(limit=Limit.PULLS):
            return Trouble(host, Kind.LIMITED, "allows no more pulls for now", error.retry_after_seconds)
        case Refused(status=429):
            return Trouble(host, Kind.LIMITED, "is asked too often", error.retry_after_seconds)
        case ConnectionFailed() | TimeoutError():
            return Trouble(host, Kind.DOWN, "does not answer", DOWN_SECONDS, of_host=True)
        case Refused() if error.status in TEMPORARY_STATUSES:
            return Trouble(
                host, Kind.DOWN, f"answers with {error.status}", error.retry_after_seconds or FAILING_SECONDS
            )
        case Refused():
            return Trouble(host, Kind.BROKEN, f"answers with {error.status}")
        case Untold():
            return Trouble(host, Kind.DOWN, "does not tell whether this is for everybody still")
        case BadAnswer() | Untrusted():
            return Trouble(host, Kind.BROKEN, "sends what it should not")
        case _:
            return Trouble(host, Kind.BROKEN, "cannot be asked")


def locked_out(host: str) -> Trouble:
    """Our login for it cannot be read."""
    return Trouble(host, Kind.DOWN, "cannot be asked", DOWN_SECONDS, of_host=True)


def offline(host: str) -> Trouble:
    """The operator said not to ask."""
    return Trouble(host, Kind.OFFLINE, "is not asked, since cache.offline is set")
