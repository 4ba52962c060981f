"""What a run is to do, and why: decided from what upstream has, what is here, and what the configuration wants.

Pure. Holds:
- a tag that somebody pushed here is never overwritten, unless the image's rule says so;
- nothing leaves that upstream still has and the selection still means, and nothing leaves on a list that was not read
  whole or is not believed;
- a tag leaves only when each run for the whole of its grace has found it so, counted from the first that did.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from homeport.mirror.origins import Leaving, TagOrigin
from homeport.oci.digest import Digest

#: Why a tag leaves that its upstream has no more.
GONE: Final[tuple[Leaving, ...]] = ("gone upstream", "repository gone")

Action: TypeAlias = Literal["same", "copy", "wait", "theirs"]


@dataclass(frozen=True, slots=True)
class Grace:
    """How long what is not meant to be here any more stays, in seconds; None: it stays."""

    gone_upstream: float | None = None
    repository_gone: float | None = None
    unselected: float | None = None
    dropped: float | None = None

    def of(self, leaving: Leaving) -> float | None:
        """That of one reason."""
        graces: Mapping[Leaving, float | None] = {
            "gone upstream": self.gone_upstream,
            "repository gone": self.repository_gone,
            "unselected": self.unselected,
            "dropped": self.dropped,
        }
        return graces[leaving]

    @property
    def removes(self) -> bool:
        """Whether anything is ever removed because of what upstream's list lacks."""
        return self.gone_upstream is not None or self.repository_gone is not None


@dataclass(frozen=True, slots=True)
class Seen:
    """A tag as upstream has it now. `since`: when it was first seen so."""

    digest: Digest
    since: float


@dataclass(frozen=True, slots=True)
class Here:
    """A tag as it is here. `whole`: all that is wanted of its image is here, too."""

    digest: Digest
    whole: bool
    #: Where it came from; None: nobody knows, or somebody pushed another digest since.
    origin: TagOrigin | None = None

    @property
    def is_upstreams(self) -> bool:
        """Whether it still is what was copied."""
        return self.origin is not None and self.origin.digest == self.digest


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done about one tag that is meant to be here."""

    action: Action
    why: str
    #: Of `wait`: when it is old enough.
    until: float | None = None


def step(seen: Seen, here: Here | None, *, minimum_age: float, overwrite: bool, now: float) -> Step:
    """What is to be done about a tag that upstream has."""
    if here is not None and here.digest == seen.digest:
        return Step("same", "unchanged") if here.whole else Step("copy", "parts of it are missing")
    if here is not None and not here.is_upstreams and not overwrite:
        return Step("theirs", f"somebody pushed {here.digest} here, and 'overwrite' is not set")
    old_enough_at = seen.since + minimum_age
    if now < old_enough_at:
        return Step("wait", "not old enough", old_enough_at)
    return Step("copy", "new" if here is None else f"was {here.digest}")


@dataclass(frozen=True, slots=True)
class UpstreamTags:
    """Which tags a repository has upstream. `tags` is its whole list; None: that was not read, or not believed."""

    tags: frozenset[str] | None
    #: Tags that it gave, and those that it said not to have, when it was asked for them one by one.
    present: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    #: It says that there is no such repository.
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class Departure:
    """A tag that is no longer meant to be here. `goes_at`: None if it stays all the same."""

    origin: TagOrigin
    leaving: Leaving
    since: float
    goes_at: float | None

    @property
    def is_news(self) -> bool:
        """Whether no earlier run has found it so."""
        return (self.origin.leaving, self.origin.leaving_since) != (self.leaving, self.since)

    def is_due(self, now: float) -> bool:
        """Whether it goes now: an earlier run has found it so, and its grace is over."""
        return not self.is_news and self.goes_at is not None and self.goes_at <= now

    @property
    def is_upstreams_doing(self) -> bool:
        """Whether it leaves because upstream has it no more."""
        return self.leaving in GONE


@dataclass(frozen=True, slots=True)
class Departures:
    """Which tags leave, and which came back."""

    leaving: tuple[Departure, ...] = ()
    back: tuple[TagOrigin, ...] = ()


def departures(
    origins: Iterable[TagOrigin],
    upstream: UpstreamTags,
    selected: Container[str],
    grace: Grace,
    now: float,
) -> Departures:
    """Of what came from one upstream repository, what leaves and what came back.

    Where nothing certain is known, a tag is in neither: its mark stays as it is.
    """
    leaving, back = [], []
    for origin in origins:
        why = _why(origin, upstream, selected)
        if why is None:
            if origin.leaving is not None and _is_back(origin, upstream, selected):
                back.append(origin)
        else:
            leaving.append(departure(origin, why, grace, now))
    return Departures(tuple(leaving), tuple(back))


def departure(origin: TagOrigin, why: Leaving, grace: Grace, now: float) -> Departure:
    """The tag leaves for this reason: since when, and when it goes."""
    known = origin.leaving == why and origin.leaving_since is not None and origin.leaving_since <= now
    since = origin.leaving_since if known and origin.leaving_since is not None else now
    seconds = grace.of(why)
    return Departure(origin, why, since, None if seconds is None else since + seconds)


def _why(origin: TagOrigin, upstream: UpstreamTags, selected: Container[str]) -> Leaving | None:
    tag = origin.source_tag
    if upstream.is_gone:
        return "repository gone"
    if upstream.tags is not None and tag not in upstream.tags:
        # A list may be older than an answer: where upstream still gives the tag itself, it has it.
        return "gone upstream" if tag in upstream.absent else None
    if tag in upstream.absent:
        return None  # Its list says that it is there, or was not read: nothing is certain.
    # What came for no image was never selected, so it can't have left the selection.
    return None if tag in selected or origin.image is None else "unselected"


def _is_back(origin: TagOrigin, upstream: UpstreamTags, selected: Container[str]) -> bool:
    """Whether what it was marked for is over for certain."""
    tag = origin.source_tag
    if origin.leaving in ("unselected", "dropped"):
        return tag in selected
    return tag in upstream.present or (
        upstream.tags is not None and tag in upstream.tags and tag not in upstream.absent
    )
