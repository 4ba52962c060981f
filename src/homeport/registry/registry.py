"""What every function of the core is handed: the places, the clock, and the rules that hold now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from homeport.clock import Clock
from homeport.db.database import Database
from homeport.oci import patterns
from homeport.oci.errors import ReadOnly
from homeport.registry.retention import Retention, untagged_seconds
from homeport.storage.blobstore import BlobStore


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator decided. Replaced as a whole when the configuration is read again."""

    manifest_bytes_max: int = 4 * 1024 * 1024
    #: Repositories whose indexes may name children that are not here, as mirrors of some platforms do.
    sparse: tuple[str, ...] = ()
    #: Why nothing may be changed at the moment; None where it may.
    read_only: str | None = None
    #: How long a write hold lasts: longer than any disk needs to take one blob in.
    hold_seconds: float = 600.0
    #: How long a client may rely on having been told that a blob is here.
    keep_seconds: float = 24 * 3600.0
    #: A promise is not renewed more often than this, so that it does not cost a write for each request.
    keep_renewal_seconds: float = 3600.0
    #: How long something stays after the last reference to it was lost.
    grace_seconds: float = 24 * 3600.0
    #: The same for a manifest, after its last tag was lost.
    untagged_seconds: float = 7 * 24 * 3600.0
    #: How long a blob that nothing links is absent to every reader before its bytes move.
    condemned_seconds: float = 600.0
    #: An upload of which no byte came for so long is forgotten.
    uploads_seconds: float = 24 * 3600.0
    #: How long what was deleted can be brought back.
    trash_seconds: float = 7 * 24 * 3600.0
    #: What is to be looked at is looked at up to so much later, so that not all of a push comes due at once.
    jitter_seconds: float = 60.0
    #: An upload moves while its last byte is not older than this: longer than a body may stand still.
    moving_seconds: float = 3600.0
    #: How many bytes the repositories of a pattern may hold, each digest counted once.
    quotas: Mapping[str, int] = field(default_factory=dict)
    #: The engines that are asked what they run. While one has never told, no manifest goes by itself.
    engines: tuple[str, ...] = ()
    #: Which tags stay, which never change, and where nothing goes by itself.
    retention: Retention = field(default_factory=Retention)

    @property
    def grace_seconds_min(self) -> float:
        """After this it is worth a look whether something may go: the least of all graces."""
        of_rules = (rule.untagged_after for rule in self.retention.keep if rule.untagged_after is not None)
        return min(self.grace_seconds, self.untagged_seconds, *of_rules)

    def untagged_seconds_of(self, repository: str) -> float:
        """How long a manifest of the repository stays after its last tag was lost."""
        return untagged_seconds(self.retention, repository, self.untagged_seconds)

    def is_sparse(self, repository: str) -> bool:
        """Whether indexes of the repository may name children that are not here."""
        return any(patterns.matches(pattern, repository) for pattern in self.sparse)


@dataclass(slots=True)
class Registry:
    """The core's places. It has no verbs: those are the functions of the modules beside it."""

    db: Database
    blobs: BlobStore
    clock: Clock
    rules: Rules = field(default_factory=Rules)
    #: The uploads that requests of this process write to just now: nobody may forget them.
    writing: set[str] = field(default_factory=set)

    def check_writable(self) -> None:
        """Every door through which a change comes asks this first. Raises `ReadOnly` with the operator's reason."""
        if self.rules.read_only is not None:
            raise ReadOnly(self.rules.read_only)
