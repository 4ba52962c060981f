"""Users of the database: facts of the table `users`.

Holds: every change counts the user's version up and writes its event. What was given to a removed user is bound to its
id, which no later user gets. Users of the configuration are not here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from homeport import events
from homeport.auth import tokens
from homeport.auth.errors import UserExists, UserNameInvalid, UserUnknown
from homeport.clock import Clock
from homeport.db.database import Row, Transaction

#: The id and the version of a user's row: while they are the same, nothing about the user has changed.
Standing: TypeAlias = tuple[int, int]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_SELECT = "SELECT id, name, admin, version, created_at, changed_at, password_hash FROM users"
_BY_NAME = _SELECT + " WHERE name = ?"
_EVERYONE = _SELECT + " ORDER BY name"
_BY_PLACE = _SELECT + " ORDER BY id LIMIT 1 OFFSET ?"


@dataclass(frozen=True, slots=True)
class User:
    """A user, without its password."""

    id: int
    name: str
    admin: bool
    version: int
    created_at: float
    changed_at: float


def check_name(name: str) -> str:
    """`name`, if a user may be called that. Raises `UserNameInvalid`."""
    # In an access rule "anonymous" is everybody; a user of that name could not be told from them.
    if not _NAME.fullmatch(name) or name == "anonymous":
        raise UserNameInvalid(name[:160])
    return name


def add(
    tx: Transaction, clock: Clock, origin: events.Origin, name: str, password_hash: str, *, admin: bool = False
) -> None:
    """Add a user. Raises `UserNameInvalid`, `UserExists`."""
    check_name(name)
    now = clock.now()
    added = tx.run(
        "INSERT INTO users (name, password_hash, admin, version, created_at, changed_at) VALUES (?, ?, ?, 1, ?, ?)"
        " ON CONFLICT (name) DO NOTHING",
        (name, password_hash, int(admin), now, now),
    )
    if not added:
        raise UserExists(name)
    events.append(tx, clock, "user.added", origin, reason=name)


def change_password(tx: Transaction, clock: Clock, origin: events.Origin, name: str, password_hash: str) -> None:
    """Give the user another password; logins with the old one, and what they were given, end. Raises `UserUnknown`."""
    user = get(tx, name)
    tx.run(
        "UPDATE users SET password_hash = ?, version = version + 1, changed_at = ? WHERE id = ?",
        (password_hash, clock.now(), user.id),
    )
    tokens.remove_of(tx, name, user.id, kind="refresh")
    events.append(tx, clock, "user.changed", origin, reason=name)


def rehash(tx: Transaction, standing: Standing, password_hash: str) -> None:
    """Keep another hash of the same password, unless the user has changed since it was checked."""
    tx.run("UPDATE users SET password_hash = ? WHERE id = ? AND version = ?", (password_hash, *standing))


def remove(tx: Transaction, clock: Clock, origin: events.Origin, name: str) -> None:
    """Remove the user and every token that belongs to it. Raises `UserUnknown`."""
    user = get(tx, name)
    tokens.remove_of(tx, name, user.id)
    tx.run("DELETE FROM users WHERE id = ?", (user.id,))
    events.append(tx, clock, "user.removed", origin, reason=name)


def get(tx: Transaction, name: str) -> User:
    """The user. Raises `UserUnknown`."""
    row = tx.one(_BY_NAME, (name,))
    if row is None:
        raise UserUnknown(name)
    return _user(row)


def everyone(tx: Transaction) -> list[User]:
    """All users by name."""
    return [_user(row) for row in tx.all(_EVERYONE)]


def standing(tx: Transaction, name: str) -> Standing | None:
    """The id and version of the user's row; None: there is no such user. Asked at every request of a cached login."""
    return tx.one("SELECT id, version FROM users WHERE name = ?", (name,))


def credentials(tx: Transaction, name: str) -> tuple[User, str] | None:
    """The user and the hash of its password."""
    row = tx.one(_BY_NAME, (name,))
    return (_user(row), row[-1]) if row else None


def count(tx: Transaction) -> int:
    """How many users there are."""
    row = tx.one("SELECT count(*) FROM users")
    assert row is not None
    return int(row[0])


def hash_at(tx: Transaction, place: int) -> str | None:
    """The hash of the user in that place, counted from 0 in the order in which they came."""
    row = tx.one(_BY_PLACE, (place,))
    return row[-1] if row else None


def _user(row: Row) -> User:
    id_, name, admin, version, created_at, changed_at, _ = row
    return User(id_, name, bool(admin), version, created_at, changed_at)
