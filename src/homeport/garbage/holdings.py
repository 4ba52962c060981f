"""What one repository holds and what keeps what, as numbers: from it comes what will go in the end, and when.

Holds: the same keeps the same as in `registry/standing.py`, which decides; this only sees all of it at once. A link is
a number and a digest 32 bytes, so that a repository of a million of them fits into memory. What is pure here takes
time in proportion to the repository, and is called in a thread.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Final, TypeAlias

from homeport.db.database import Row, Transaction
from homeport.garbage.sweep import Pace
from homeport.oci.digest import ENCODED_CHARACTERS, Digest
from homeport.registry import uploads
from homeport.registry.registry import Registry
from homeport.registry.standing import RECHECK_SECONDS

#: How many rows are read in one go: a thousandth of a second or two.
PAGE: Final = 250

_ALGORITHMS: Final = {characters // 2: name for name, characters in ENCODED_CHARACTERS.items()}
#: A digest as bytes; its length tells its algorithm.
_Key: TypeAlias = bytes


@dataclass(frozen=True, slots=True)
class Going:
    """A link that will go. `since`: when its last reference was lost."""

    digest: Digest
    size: int
    is_manifest: bool
    since: float
    #: When, unless something happens.
    at: float


@dataclass(frozen=True, slots=True)
class Graces:
    """How long something stays after its last reference was lost."""

    manifests: float
    blobs: float

    @classmethod
    def of(cls, registry: Registry, repository: str, untagged_seconds: float | None) -> Graces:
        """Those of the rules, or one that a person wants instead."""
        if untagged_seconds is not None:
            return cls(untagged_seconds, untagged_seconds)
        return cls(registry.rules.untagged_seconds_of(repository), registry.rules.grace_seconds)


@dataclass(frozen=True, slots=True)
class _Links:
    """Links by their numbers."""

    keys: list[_Key] = field(default_factory=list)
    sizes: array[int] = field(default_factory=lambda: array("q"))
    keep_until: array[float] = field(default_factory=lambda: array("d"))
    released_at: array[float] = field(default_factory=lambda: array("d"))
    is_manifest: bytearray = field(default_factory=bytearray)


class Holdings:
    """The links of one repository."""

    def __init__(self) -> None:
        self._links = _Links()
        self._numbers: dict[_Key, int] = {}
        #: What a manifest names: its number, as often as it names something, in order; and beside it what.
        self._namers = array("I")
        self._named = array("I")
        #: The manifest that named something last, with its number.
        self._named_last: tuple[str, int | None] = ("", None)
        #: What belongs to a subject.
        self._companions: dict[int, list[int]] = defaultdict(list)
        #: An upload goes on that began at this time, on whose behalf somebody may rely on what was promised since.
        self.relied_on_since: float | None = None

    def add(self, digest: str, size: int, keep_until: float, released_at: float, *, is_manifest: bool) -> None:
        """A link. They come in the order of their digests."""
        key = _key(digest)
        self._numbers[key] = len(self._links.keys)
        self._links.keys.append(key)
        self._links.sizes.append(size)
        self._links.keep_until.append(keep_until)
        self._links.released_at.append(released_at)
        self._links.is_manifest.append(is_manifest)

    def name(self, manifest: str, digest: str) -> None:
        """The manifest names this. They come in the order of the manifests' digests, when all links are there."""
        if manifest != self._named_last[0]:
            self._named_last = manifest, self._numbers.get(_key(manifest))
        namer, named = self._named_last[1], self._numbers.get(_key(digest))
        if namer is not None and named is not None:
            self._namers.append(namer)
            self._named.append(named)

    def belong(self, digest: str, subject: str) -> None:
        """This goes when the subject does, and stays while that is here."""
        number, kept_by = self._numbers.get(_key(digest)), self._numbers.get(_key(subject))
        if number is not None and kept_by is not None:
            self._companions[kept_by].append(number)

    def going(self, roots: Iterable[str], untagged: Iterable[str], graces: Graces, now: float) -> Departures:
        """Everything that no root leads to, the roots being digests. `untagged` loses its last tag `now`."""
        stays = self._reached(roots)
        for number in self._known(untagged):
            if not stays[number]:
                self._links.released_at[number] = now
        own = array("d", (self._own_time(number, graces, now) for number in range(len(stays))))
        goes = array("I", (number for number, is_staying in enumerate(stays) if not is_staying))
        at = self._latest(goes, own, stays)
        return Departures(self._links, goes, at, self._first(untagged, stays))

    def _reached(self, roots: Iterable[str]) -> bytearray:
        stays = bytearray(len(self._numbers))
        waiting = list(self._known(roots))
        while waiting:
            number = waiting.pop()
            if not stays[number]:
                stays[number] = True
                waiting += self._kept_by(number)
        return stays

    def _first(self, untagged: Iterable[str], stays: bytearray) -> bytearray:
        """Which of those that go nothing refers to, and no tag did until now."""
        is_first = bytearray(not is_staying for is_staying in stays)
        for number in self._known(untagged):
            is_first[number] = False
        for namer, named in zip(self._namers, self._named, strict=True):
            if not stays[namer]:
                is_first[named] = False
        for companions in self._companions.values():
            for number in companions:
                is_first[number] = False
        return is_first

    def _known(self, digests: Iterable[str]) -> Iterator[int]:
        return (number for digest in digests if (number := self._numbers.get(_key(digest))) is not None)

    def _kept_by(self, number: int) -> list[int]:
        """What stays while this does."""
        if not self._links.is_manifest[number]:
            return []
        named = self._named[bisect_left(self._namers, number) : bisect_right(self._namers, number)].tolist()
        return named + self._companions.get(number, [])

    def _own_time(self, number: int, graces: Graces, now: float) -> float:
        grace = graces.manifests if self._links.is_manifest[number] else graces.blobs
        at = max(self._links.keep_until[number], self._links.released_at[number] + grace)
        if self.relied_on_since is not None and self._links.keep_until[number] >= self.relied_on_since:
            at = max(at, now + RECHECK_SECONDS)
        return at

    def _latest(self, goes: Iterable[int], own: array[float], stays: bytearray) -> array[float]:
        """When each goes: at its own time, but no sooner than what refers to it.

        Whoever is looked at first has the latest time, so whatever it leads to and has none yet goes with it.
        """
        at = array("d", own)
        has_time = bytearray(stays)
        for first in sorted(goes, key=own.__getitem__, reverse=True):
            waiting = [first]
            while waiting:
                number = waiting.pop()
                if not has_time[number]:
                    has_time[number], at[number] = True, own[first]
                    waiting += self._kept_by(number)
        return at


class Departures:
    """The links of a repository that will go."""

    def __init__(self, links: _Links, goes: array[int], at: array[float], is_first: bytearray) -> None:
        self._links = links
        self._goes = goes
        self._at = at
        self._is_first = is_first

    def pages(self, size: int) -> Iterator[list[Going]]:
        """All of them, so many at once."""
        for start in range(0, len(self._goes), size):
            yield [self._going(number) for number in self._goes[start : start + size]]

    def count_first(self) -> int:
        """How many of them nothing refers to."""
        return sum(self._is_first[number] for number in self._goes)

    def next(self, count: int) -> list[Going]:
        """Of those that nothing refers to, the next to go."""
        first = (number for number in self._goes if self._is_first[number])
        return [self._going(number) for number in nsmallest(count, first, key=self._at.__getitem__)]

    def _going(self, number: int) -> Going:
        links = self._links
        return Going(
            _digest(links.keys[number]),
            links.sizes[number],
            bool(links.is_manifest[number]),
            links.released_at[number],
            self._at[number],
        )


def _key(digest: str) -> _Key:
    return bytes.fromhex(digest[7:])  # Behind `sha256:` or `sha512:`.


def _digest(key: _Key) -> Digest:
    return Digest(f"{_ALGORITHMS[len(key)]}:{key.hex()}")


# --- flows ------------------------------------------------------------------------------------------------------


async def read(registry: Registry, pace: Pace, repository: str, repository_id: int) -> Holdings:
    """What the repository holds, without what belongs to a subject by its tag. Raises `DatabaseError`."""
    found = Holdings()
    since = registry.clock.now() - registry.rules.moving_seconds
    found.relied_on_since = await registry.db.read(uploads.oldest_moving, repository, since)
    async for page in _pages(registry, pace, _links, repository_id, ("",)):
        for digest, size, keep_until, released_at, manifest_id in page:
            found.add(digest, size or 0, keep_until, released_at, is_manifest=manifest_id is not None)
    async for page in _pages(registry, pace, _names, repository_id, ("", "", "")):
        for manifest, digest, _ in page:
            found.name(manifest, digest)
    async for page in _pages(registry, pace, _subjects, repository_id, ("", "")):
        for subject, digest in page:
            found.belong(digest, subject)
    return found


async def _pages(
    registry: Registry,
    pace: Pace,
    fact: Callable[[Transaction, int, Row], list[Row]],
    repository_id: int,
    after: Row,
) -> AsyncIterator[list[Row]]:
    """All pages of a fact whose rows begin with what they are ordered by, as many columns as `after` has."""
    columns = len(after)
    while True:
        pace.begin()
        page = await registry.db.read(fact, repository_id, after)
        yield page
        await pace.rest()
        if len(page) < PAGE:
            return
        after = page[-1][:columns]


# --- facts ------------------------------------------------------------------------------------------------------


def _links(tx: Transaction, repository_id: int, after: Row) -> list[Row]:
    return tx.all(
        "SELECT digest, size, keep_until, released_at, manifest_id FROM link_ages"
        " WHERE repository_id = ? AND digest > ? ORDER BY digest LIMIT ?",
        (repository_id, *after, PAGE),
    )


def _names(tx: Transaction, repository_id: int, after: Row) -> list[Row]:
    return tx.all(
        "SELECT manifest, digest, role FROM manifest_names"
        " WHERE repository_id = ? AND (manifest, digest, role) > (?, ?, ?) ORDER BY manifest, digest, role LIMIT ?",
        (repository_id, *after, PAGE),
    )


def _subjects(tx: Transaction, repository_id: int, after: Row) -> list[Row]:
    return tx.all(
        "SELECT subject, digest FROM subject_manifests"
        " WHERE repository_id = ? AND (subject, digest) > (?, ?) ORDER BY subject, digest LIMIT ?",
        (repository_id, *after, PAGE),
    )
