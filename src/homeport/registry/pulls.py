"""When each tag and digest was last pulled. Owns the table `pulls`.

Holds: a pull costs no write. Pulls are counted in memory and written together, once a minute, so what a crash loses is
a minute of them. HEAD is no pull: it is how clients look whether something changed. Nor is what scanners and mirrors
ask for (`server/pullers.py`), since it says nothing of whether an image is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from homeport.db.database import Transaction
from homeport.registry.registry import Registry

#: How often the counters are written.
FLUSH_SECONDS = 60.0
#: More distinct references than this are written at once, which bounds the memory.
PENDING_MAX = 10_000
#: Rows that one transaction writes.
BATCH_MAX = 200


@dataclass(frozen=True, slots=True)
class Pulled:
    """The last pull of one tag or digest."""

    pulled_at: float
    pulls: int


class Pulls:
    """The pulls that are not written yet."""

    def __init__(self) -> None:
        self._pending: dict[tuple[str, str], Pulled] = {}

    @property
    def overflowing(self) -> bool:
        return len(self._pending) >= PENDING_MAX

    def note(self, repository: str, reference: str, now: float) -> None:
        """Count a pull of a tag or digest."""
        before = self._pending.get((repository, reference))
        if before is None and self.overflowing:
            return  # Whoever asks for ten thousand different things in a minute is not somebody whose pulls matter.
        self._pending[repository, reference] = Pulled(now, before.pulls + 1 if before else 1)

    async def flush(self, registry: Registry) -> int:
        """Write what was counted; how many references that were. On failure they are kept for the next time."""
        pending, self._pending = self._pending, {}
        count = len(pending)
        try:
            for batch in _batches(list(pending.items())):
                await registry.db.jot(_write, batch)
                for reference in batch:
                    del pending[reference]
        except BaseException:
            for reference, pulled in self._pending.items():
                before = pending.get(reference)
                pending[reference] = Pulled(pulled.pulled_at, pulled.pulls + (before.pulls if before else 0))
            self._pending = pending
            raise
        return count


def _batches(items: list[tuple[tuple[str, str], Pulled]]) -> Iterator[dict[tuple[str, str], Pulled]]:
    """The pulls in transactions that are short, since nothing else is answered while one runs."""
    for first in range(0, len(items), BATCH_MAX):
        yield dict(items[first : first + BATCH_MAX])


# --- facts ------------------------------------------------------------------------------------------------------


def last(tx: Transaction, repository: str, reference: str) -> Pulled | None:
    """The last pull of a tag or digest, as far as it was written."""
    row = tx.one("SELECT pulled_at, pulls FROM pulls WHERE repository = ? AND reference = ?", (repository, reference))
    return Pulled(*row) if row else None


def _write(tx: Transaction, pending: dict[tuple[str, str], Pulled]) -> None:
    for (repository, reference), pulled in pending.items():
        tx.run(
            "INSERT INTO pulls (repository, reference, pulled_at, pulls) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (repository, reference) DO UPDATE"
            " SET pulled_at = excluded.pulled_at, pulls = pulls.pulls + excluded.pulls",
            (repository, reference, pulled.pulled_at, pulled.pulls),
        )
