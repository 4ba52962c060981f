"""The keys that bearer tokens are signed with: facts of the table `signing_keys`.

Holds: the only keys are the ones made here. They are read from the database whenever one is needed, so that every
process beside this one agrees, and no name of a key that a stranger sends can make us fetch or forget anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from homeport.clock import Clock
from homeport.db.database import Transaction

#: How long a key signs.
SIGNS_SECONDS = 30 * 86400.0
#: How long it is kept after that: longer than any token that it signed.
KEPT_SECONDS = 86400.0

_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Key:
    """A key of HMAC-SHA-256."""

    id: str
    secret: bytes = field(repr=False)
    created_at: float

    def signs(self, now: float) -> bool:
        """Whether it is young enough to sign. One from the future (the clock was set back) is."""
        return now < self.created_at + SIGNS_SECONDS


def newest(tx: Transaction) -> Key | None:
    """The key that signs; None: there has never been one."""
    row = tx.one("SELECT id, secret, created_at FROM signing_keys ORDER BY created_at DESC, id LIMIT 1")
    return Key(*row) if row else None


def find(tx: Transaction, id: str) -> Key | None:  # noqa: A002
    """The key with this id, while it is kept."""
    row = tx.one("SELECT id, secret, created_at FROM signing_keys WHERE id = ?", (id,))
    return Key(*row) if row else None


def rotate(tx: Transaction, clock: Clock) -> Key:
    """The key that signs from now on, a new one if the last is too old; those that nobody can need any more go."""
    now = clock.now()
    key = newest(tx)
    if key is None or not key.signs(now):
        key = Key(clock.new_id(), clock.random_bytes(_SECRET_BYTES), now)
        tx.run(
            "INSERT INTO signing_keys (id, secret, created_at) VALUES (?, ?, ?)", (key.id, key.secret, key.created_at)
        )
        tx.run("DELETE FROM signing_keys WHERE created_at < ?", (now - SIGNS_SECONDS - KEPT_SECONDS,))
    return key
