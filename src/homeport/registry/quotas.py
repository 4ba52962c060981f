"""Quotas: how many bytes the repositories of a pattern may hold. Owns the tables `quota_rules` and `quota_digests`.

Holds:
- A digest counts once in a rule, however many links of the rule's repositories lead to it. The transaction that makes
  or takes a link counts it, so the counts are exact whenever somebody looks.
- A new rule is counted link by link, in the order of their keys. Whoever changes a link that it has passed counts the
  change at once; what lies before it is counted when it gets there. Until then it is enforced with what it has.
- What is counted is what the database has as rules, what is refused is what this process' configuration says. So
  processes with other configurations break no count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from homeport.db.database import Transaction
from homeport.jobs.summary import Summary
from homeport.jobs.work import Kind, Run
from homeport.kinds import JOB_ARGUMENTS, Outcome
from homeport.oci import patterns
from homeport.oci.digest import Digest
from homeport.oci.errors import QuotaExceeded
from homeport.registry import repositories
from homeport.registry.registry import Registry

#: The kind of job that counts new rules and forgets old ones.
RECOUNT: Final = "recount"
#: How many links are counted, or digests forgotten, in one transaction.
BATCH_ROWS: Final = 500


@dataclass(frozen=True, slots=True)
class Room:
    """A rule that something new would count in."""

    pattern: str
    used_bytes: int
    limit_bytes: int

    def refusal(self, more_bytes: int, *, reserved_bytes: int = 0) -> str | None:
        """Why `more_bytes` do not fit beside what is used and reserved, in numbers; None if they do."""
        if self.used_bytes + reserved_bytes + more_bytes <= self.limit_bytes:
            return None
        coming = f", {reserved_bytes} are being uploaded" if reserved_bytes else ""
        return f"{self.pattern}: {self.used_bytes} of {self.limit_bytes} bytes are used{coming}"


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of a rule is used. Not `is_counted`: that is only what was counted so far."""

    pattern: str
    used_bytes: int
    is_counted: bool


@dataclass(frozen=True, slots=True)
class _Rule:
    """A row, locked until the transaction ends."""

    id: int
    pattern: str
    used_bytes: int
    #: The key of the last link that it has counted; None: it has counted all.
    position: tuple[int, str] | None

    def has_passed(self, repository_id: int, digest: str) -> bool:
        return self.position is None or (repository_id, digest) <= self.position


# --- decisions --------------------------------------------------------------------------------------------------


def limits(registry: Registry, repository: str) -> Mapping[str, int]:
    """The rules of the configuration that the repository is under, with their bytes."""
    quotas = registry.rules.quotas
    return {pattern: limit for pattern, limit in quotas.items() if patterns.matches(pattern, repository)}


# --- facts: asking ----------------------------------------------------------------------------------------------


def rooms(tx: Transaction, registry: Registry, repository: str, digest: Digest | None, size: int) -> Iterator[Room]:
    """The rules that limit the repository and have not counted `digest` (None: nobody knows it yet).

    If that has fewer than the `size` bytes that come, these are something else, whatever was said of them.
    """
    for pattern, limit in limits(registry, repository).items():
        row = tx.one("SELECT id, used_bytes FROM quota_rules WHERE pattern = ?", (pattern,))
        if row is not None and (digest is None or not _has(tx, row[0], digest, size)):
            yield Room(pattern, row[1], limit)


def check(tx: Transaction, registry: Registry, repository: str, digest: Digest | None, size: int) -> None:
    """Raise `QuotaExceeded` if `size` bytes have no room. Only the transaction that links them decides."""
    for room in rooms(tx, registry, repository, digest, size):
        if refusal := room.refusal(size):
            raise QuotaExceeded(refusal)


def usage(tx: Transaction) -> list[Usage]:
    """Every rule."""
    rows = tx.all(
        "SELECT pattern, used_bytes, counted_repository IS NULL FROM quota_rules WHERE pattern IS NOT NULL"
        " ORDER BY pattern"
    )
    return [Usage(pattern, used, bool(counted)) for pattern, used, counted in rows]


# --- facts: counting --------------------------------------------------------------------------------------------


def charge(tx: Transaction, registry: Registry, repository_id: int, repository: str, digest: Digest) -> None:
    """Count a link that was just made. Raises `QuotaExceeded` where that brings bytes for which there is no room."""
    rules = _rules_of(tx, repository)
    if not rules:
        return
    row = tx.one("SELECT size FROM linked_blobs WHERE repository_id = ? AND digest = ?", (repository_id, digest))
    assert row is not None
    (size,) = row
    limited = limits(registry, repository)
    for rule in rules:
        if rule.pattern in limited and not _has(tx, rule.id, digest, size):
            room = Room(rule.pattern, rule.used_bytes, limited[rule.pattern])
            if refusal := room.refusal(size):
                raise QuotaExceeded(refusal)
        if rule.has_passed(repository_id, digest):
            _add(tx, rule.id, digest, size)


def discharge(tx: Transaction, repository_id: int, digest: Digest) -> None:
    """Count a link that was just taken; the row of its repository is still there."""
    if not tx.one("SELECT 1 FROM quota_rules LIMIT 1"):
        return
    name = repositories.name(tx, repository_id)
    for rule in _rules_of(tx, name) if name is not None else ():
        if not rule.has_passed(repository_id, digest):
            continue
        row = tx.one(
            "DELETE FROM quota_digests WHERE rule_id = ? AND digest = ? AND link_count = 1 RETURNING size",
            (rule.id, digest),
        )
        if row is not None:
            tx.run("UPDATE quota_rules SET used_bytes = used_bytes - ? WHERE id = ?", (row[0], rule.id))
        else:
            tx.run(
                "UPDATE quota_digests SET link_count = link_count - 1 WHERE rule_id = ? AND digest = ?",
                (rule.id, digest),
            )


def _rules_of(tx: Transaction, repository: str) -> list[_Rule]:
    """The rules that the repository is under, locked, always in the same order."""
    rows = tx.all("SELECT id, pattern FROM quota_rules WHERE pattern IS NOT NULL ORDER BY id")
    found = [_locked(tx, rule_id, pattern) for rule_id, pattern in rows if patterns.matches(pattern, repository)]
    return [rule for rule in found if rule is not None]


def _locked(tx: Transaction, rule_id: int, pattern: str) -> _Rule | None:
    row = tx.one(
        # Changes nothing, but whoever else counts in this rule waits for our end.
        "UPDATE quota_rules SET used_bytes = used_bytes WHERE id = ? AND pattern IS NOT NULL"
        " RETURNING used_bytes, counted_repository, counted_digest",
        (rule_id,),
    )
    if row is None:
        return None
    used, repository_id, digest = row
    return _Rule(rule_id, pattern, used, None if repository_id is None else (repository_id, digest))


def _has(tx: Transaction, rule_id: int, digest: str, size: int) -> bool:
    sql = "SELECT 1 FROM quota_digests WHERE rule_id = ? AND digest = ? AND size >= ?"
    return bool(tx.one(sql, (rule_id, digest, size)))


def _add(tx: Transaction, rule_id: int, digest: str, size: int) -> None:
    row = tx.one(
        "INSERT INTO quota_digests (rule_id, digest, size, link_count) VALUES (?, ?, ?, 1)"
        " ON CONFLICT (rule_id, digest) DO UPDATE SET link_count = quota_digests.link_count + 1 RETURNING link_count",
        (rule_id, digest, size),
    )
    if row == (1,):
        tx.run("UPDATE quota_rules SET used_bytes = used_bytes + ? WHERE id = ?", (size, rule_id))


# --- facts: other rules -----------------------------------------------------------------------------------------


def sync(tx: Transaction, wanted: Collection[str]) -> bool:
    """Make the rules those of the patterns; whether there is something to count or to forget now."""
    known = {pattern for (pattern,) in tx.all("SELECT pattern FROM quota_rules WHERE pattern IS NOT NULL")}
    for pattern in sorted(known - set(wanted)):
        tx.run("UPDATE quota_rules SET pattern = NULL WHERE pattern = ?", (pattern,))
    for pattern in sorted(set(wanted) - known):
        tx.run(
            "INSERT INTO quota_rules (pattern, used_bytes, counted_repository, counted_digest) VALUES (?, 0, 0, '')",
            (pattern,),
        )
    sql = "SELECT 1 FROM quota_rules WHERE pattern IS NULL OR counted_repository IS NOT NULL LIMIT 1"
    return tx.one(sql) is not None


def recount(tx: Transaction, limit: int = BATCH_ROWS) -> int | None:
    """Count the next links, at most `limit`, of a rule that is new; how many. None: every rule has counted all."""
    waiting = tx.one(
        "SELECT id, pattern FROM quota_rules WHERE pattern IS NOT NULL AND counted_repository IS NOT NULL"
        " ORDER BY id LIMIT 1"
    )
    rule = _locked(tx, *waiting) if waiting is not None else None
    if rule is None or rule.position is None:
        return None
    links = tx.all(
        "SELECT repository_id, repository, digest, size FROM linked_blobs WHERE (repository_id, digest) > (?, ?)"
        " ORDER BY repository_id, digest LIMIT ?",
        (*rule.position, limit),
    )
    for _, repository, digest, size in links:
        if patterns.matches(rule.pattern, repository):
            _add(tx, rule.id, digest, size)
    position = (links[-1][0], links[-1][2]) if len(links) == limit else (None, None)
    tx.run(
        "UPDATE quota_rules SET counted_repository = ?, counted_digest = ? WHERE id = ?",
        (*position, rule.id),
    )
    return len(links)


def forget(tx: Transaction, limit: int = BATCH_ROWS) -> int | None:
    """Forget digests, at most `limit`, of a rule that left the configuration; how many. None: there is no such rule."""
    row = tx.one("SELECT id FROM quota_rules WHERE pattern IS NULL ORDER BY id LIMIT 1")
    if row is None:
        return None
    forgotten = tx.run(
        "DELETE FROM quota_digests WHERE rule_id = ? AND digest IN"
        " (SELECT digest FROM quota_digests WHERE rule_id = ? ORDER BY digest LIMIT ?)",
        (row[0], row[0], limit),
    )
    if forgotten < limit:
        tx.run("DELETE FROM quota_rules WHERE id = ?", (row[0],))
    return forgotten


# --- the job ----------------------------------------------------------------------------------------------------


def kind(registry: Registry) -> Kind:
    """The kind of job that brings the counts to what the configuration wants. A crash costs it one batch."""

    async def run(run: Run) -> Summary:
        counts = {"counted": 0, "forgotten": 0}
        for name, step in (("counted", recount), ("forgotten", forget)):
            while (done := await registry.db.jot(step)) is not None:
                counts[name] += done
                await run.progress(counts[name], None, "links", name)
        return Summary(Outcome.SUCCESS, counts=counts)

    return Kind(RECOUNT, run, takes=JOB_ARGUMENTS[RECOUNT])
