"""Whether the sweep was allowed to take what it took: the rules of `docs/format.md` once more, in other words.

Fed with what the ledger sees. It knows what clients were told, and when; when the last reference to each thing was
lost; who used what; and which uploads moved. Where requests ran at once, only what is certain counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf

from homeport.clock import Clock
from homeport.oci import companions
from homeport.oci.digest import Digest
from homeport.registry.registry import Rules
from homeport.registry.uploads import MOVED_SECONDS
from homeport.testing.invariants import Told
from homeport.testing.model import Model

#: The run of what a sweep does.
SWEEP = "cleanup"

Where = tuple[str, Digest]


@dataclass(eq=False, slots=True)
class Span:
    """Something that began, and perhaps has ended."""

    began: float
    ended: float = inf


@dataclass(eq=False, slots=True)
class Moving:
    """An upload, as its client sees it: when it certainly existed, and each time that something of it was taken."""

    repository: str
    started: float
    #: When a request began that was answered, and when that was.
    moves: list[Span] = field(default_factory=list)
    ended: float = inf


@dataclass(eq=False)
class Oracle:
    """All that a sweep has to respect, but for the images themselves, which are in the model."""

    rules: Rules
    #: When the last reference to a link was lost, or it was made.
    released: dict[Where, float] = field(default_factory=dict)
    #: When clients asked, and were told that it is here.
    told: defaultdict[Where, list[Span]] = field(default_factory=lambda: defaultdict(list))
    #: When it was last deleted, which ends all that was told before.
    voided: dict[Where, float] = field(default_factory=dict)
    #: What is in use, each time that somebody reported it.
    reports: list[tuple[Span, frozenset[Digest]]] = field(default_factory=list)
    #: When somebody had the sweep look at all things without their grace.
    impatient: list[Span] = field(default_factory=list)
    uploads: list[Moving] = field(default_factory=list)

    @contextmanager
    def impatience(self, clock: Clock) -> Iterator[None]:
        span = Span(clock.now())
        self.impatient.append(span)
        yield
        span.ended = clock.now()

    def new_life(self, in_use: frozenset[Digest]) -> None:
        """The process is another one: what it did has ended, and what is in use is what its tables say."""
        before = self.in_use(inf)
        assert in_use >= before, f"it was forgotten that {before - in_use} are in use"
        self.reports = [(Span(0.0, 0.0), in_use)]
        self.impatient.clear()

    def in_use(self, at: float) -> frozenset[Digest]:
        """What was certainly in use at the time: whatever report came last, it was in it."""
        settled = [found for span, found in self.reports if span.ended < at]
        open_ = [found for span, found in self.reports if span.began < at <= span.ended]
        possible = [*settled[-1:], *open_]
        return frozenset.intersection(*possible) if possible else frozenset()

    # --- what happens -------------------------------------------------------------------------------------------

    def note(self, told: Told, model: Model) -> None:
        """Note what a change means for later ones; before the model changes."""
        change, at = told.change, told.at
        repository, digest = change.repository, change.digest
        match change.kind:
            case "tag.set" if change.tag is not None:
                before = model.tag(repository, change.tag)
                if before is not None and before != digest:
                    self.released[repository, before] = at
            case "tag.deleted" if told.run != SWEEP:
                self.released[repository, digest] = at
            case "blob.deleted" | "manifest.deleted":
                self.voided[repository, digest] = at
                self.told[repository, digest] = [span for span in self.told[repository, digest] if span.began > at]
                if change.kind == "manifest.deleted" and told.run != SWEEP:
                    for named in model.named_by(digest):
                        self.released[repository, named] = at
            case _ if not model.has_blob(repository, digest):
                self.released[repository, digest] = at

    def check(self, told: Told, model: Model) -> None:
        """Raise `AssertionError` if a sweep must not have done this; before the model changes."""
        change, at = told.change, told.at
        what = f"a sweep must not cause {change} at {at:.3f}"
        if change.kind == "tag.deleted":
            assert change.tag is not None
            assert companions.subject(change.tag) is not None, f"{what}: tags are never swept"
        else:
            assert change.kind in ("blob.deleted", "manifest.deleted"), what
        why = model.why_kept(change.repository, change.digest, self.in_use(at))
        assert why is None, f"{what}: {why}"
        told_at = self._told_at((change.repository, change.digest), at)
        promised = told_at + self.rules.keep_seconds - self.rules.keep_renewal_seconds
        assert promised <= at, f"{what}: at {told_at:.3f} somebody was told that it is here"
        lost_at = self.released.get((change.repository, change.digest), -inf)
        assert lost_at + self._grace(change.repository, change.digest, at, model) <= at, (
            f"{what}: {lost_at} is not long ago"
        )
        for upload in self.uploads:
            waits = upload.repository == change.repository and promised >= upload.started and self._moves(upload, at)
            assert not waits, f"{what}: an upload that began before {upload.started:.3f} goes on"

    def _told_at(self, where: Where, at: float) -> float:
        voided = self.voided.get(where, -inf)
        return max((span.began for span in self.told[where] if span.began > voided and span.ended < at), default=-inf)

    def _grace(self, repository: str, digest: Digest, at: float, model: Model) -> float:
        if any(span.began < at < span.ended for span in self.impatient):
            return 0.0
        if model.has_manifest(repository, digest):
            return self.rules.untagged_seconds_of(repository)
        return self.rules.grace_seconds

    def _moves(self, upload: Moving, at: float) -> bool:
        """Whether the upload certainly moved lately, and had not ended."""
        since = at - self.rules.moving_seconds + MOVED_SECONDS
        return at < upload.ended and any(span.ended < at and span.began > since for span in upload.moves)
