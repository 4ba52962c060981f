"""The brake: a run that would remove too many tags removes none until a person says so.

Owns the tables `cleanup_brakes` and `cleanup_braked_tags`.

Holds: it stops everybody, also a person who starts a run. Who releases a run lets one other run remove what that would
have removed, repository by repository, and no more; if more would go by then, it stops again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from homeport import events
from homeport.db.database import Transaction
from homeport.events import SYSTEM, Origin
from homeport.registry.registry import Registry

#: So many tags of a repository, or of all, may always go; of more this part.
TAGS_MAX: Final = 20
PART_MAX: Final = 0.25
#: How long a run that stopped can be released.
RELEASE_SECONDS_MAX: Final = 90 * 86_400.0
#: How many repositories are told by name.
_TOLD_MAX: Final = 3


class BrakeError(Exception):
    """What was asked about a run that stopped cannot be done; the text is for people."""


@dataclass(frozen=True, slots=True)
class Excess:
    """Too many tags that would go at once. `repository` is None for all repositories together."""

    repository: str | None
    going: int
    total: int
    limit: int

    @property
    def sentence(self) -> str:
        """Such as `120 of the 200 tags of team/api would go, and 50 may`."""
        where = "all repositories" if self.repository is None else self.repository
        return f"{self.going} of the {self.total} tags of {where} would go, and {self.limit} may"


def excesses(going: Mapping[str, tuple[int, int]], total: int, released: Mapping[str, int]) -> list[Excess]:
    """Where too many tags would go, the worst first.

    `going`: of each repository, how many of how many go. `released`: how many a person allowed.
    """
    found = [
        Excess(repository, count, of, limit)
        for repository, (count, of) in going.items()
        if count > (limit := _limit(of, released.get(repository, 0)))
    ]
    found.sort(key=lambda each: (-each.going, each.repository or ""))
    all_going = sum(count for count, _ in going.values())
    limit = _limit(total, sum(released.values()))
    if all_going > limit and not (found and len(going) == 1):
        found.append(Excess(None, all_going, total, limit))
    return found


def _limit(total: int, released: int) -> int:
    return max(TAGS_MAX, int(total * PART_MAX), released)


def reason(found: list[Excess], run: int) -> str:
    """What a person is told of a run that stopped."""
    told = "; ".join(each.sentence for each in found[:_TOLD_MAX])
    more = f"; and so in {len(found) - _TOLD_MAX} more" if len(found) > _TOLD_MAX else ""
    return (
        f"no tag was removed: {told}{more}. `homeport cleanup plan` shows them, and `homeport cleanup release {run}`"
        " lets them go"
    )


# --- facts ------------------------------------------------------------------------------------------------------


def stop(tx: Transaction, registry: Registry, run: int, going: Mapping[str, tuple[int, int]], why: str) -> None:
    """Remember what the run would have removed, and tell it."""
    now = registry.clock.now()
    tx.run("DELETE FROM cleanup_brakes WHERE stopped_at < ?", (now - RELEASE_SECONDS_MAX,))
    is_new = tx.run(
        "INSERT INTO cleanup_brakes (run, reason, stopped_at) VALUES (?, ?, ?) ON CONFLICT (run) DO NOTHING",
        (run, why, now),
    )
    if not is_new:  # The run is done again after a crash.
        return
    for repository, (count, _) in going.items():
        tx.run("INSERT INTO cleanup_braked_tags (run, repository, going) VALUES (?, ?, ?)", (run, repository, count))
    events.append(tx, registry.clock, "cleanup.stopped", Origin(SYSTEM.actor, run=f"job-{run}"), reason=why)


def release(tx: Transaction, registry: Registry, origin: Origin, run: int) -> None:
    """A person lets go what the run stopped at. Again is the same as once. Raises `BrakeError`."""
    row = tx.one("SELECT released_at, used_by FROM cleanup_brakes WHERE run = ?", (run,))
    if row is None:
        raise BrakeError(f"job {run} is no cleanup that stopped because of too many tags")
    released_at, used_by = row
    if used_by is not None:
        raise BrakeError(f"job {run} was released already, and job {used_by} made use of it")
    if released_at is None:
        tx.run("UPDATE cleanup_brakes SET released_at = ? WHERE run = ?", (registry.clock.now(), run))
        events.append(tx, registry.clock, "cleanup.released", origin, reason=f"job-{run}", detail={"job": run})


def allowed(tx: Transaction, run: int, by: int) -> dict[str, int]:
    """How many tags of each repository the run `by` may remove because `run` was released. Raises `BrakeError`."""
    row = tx.one("SELECT released_at, used_by FROM cleanup_brakes WHERE run = ?", (run,))
    if row is None or row[0] is None:
        raise BrakeError(f"nobody released job {run}; `homeport cleanup release {run}` does")
    if row[1] not in (None, by):
        raise BrakeError(f"the release of job {run} was made use of by job {row[1]}")
    return dict(tx.all("SELECT repository, going FROM cleanup_braked_tags WHERE run = ?", (run,)))


def use(tx: Transaction, run: int, by: int) -> None:
    """The run `by` makes use of the release of `run`, and no other can. Raises `BrakeError`."""
    allowed(tx, run, by)
    tx.run("UPDATE cleanup_brakes SET used_by = ? WHERE run = ?", (by, run))
