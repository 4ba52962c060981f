"""The contract of the place where facts live, method by method.

Facts are plain synchronous functions whose first argument is a `Transaction`. They hold the SQL of their own tables in
the subset that SQLite and PostgreSQL share, with `?` for parameters. No transaction ever spans an `await`: a fact runs
from its first statement to its last without giving up the thread.

`homeport.testing.database_suite` is this contract as tests; every implementation passes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

#: What a parameter may be: text, whole numbers, seconds, bytes, or nothing.
Parameters: TypeAlias = Sequence[str | int | float | bytes | None]
Row: TypeAlias = tuple[Any, ...]


class DatabaseError(Exception):
    """The database could not do what was asked; nothing of the transaction was kept."""


class ConstraintViolated(DatabaseError):
    """A row would break a rule of the schema (unique, foreign key, check)."""


class DatabaseFull(DatabaseError):
    """There is no room left for the database to grow."""


class SchemaTooNew(DatabaseError):
    """The database was written by a newer Homeport that this one cannot work beside."""


class Transaction(ABC):
    """One transaction, as facts see it. It must not be kept after the fact returns."""

    @abstractmethod
    def run(self, sql: str, parameters: Parameters = ()) -> int:
        """Execute a statement; the number of rows that it changed."""

    @abstractmethod
    def one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """The first row, or None. Also for `INSERT ... RETURNING`."""

    @abstractmethod
    def all(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Every row. The caller bounds them with LIMIT where strangers decide how many there are."""

    @abstractmethod
    def lock(self, digests: Iterable[str], *, exclusive: bool = False) -> None:
        """Hold the rows of these blobs until the transaction ends, so that a sweep and a push see each other.

        Shared by default. Implementations sort the digests (no deadlocks) and skip those that have no row. On SQLite,
        which has one writer, there is nothing to do.
        """

    @abstractmethod
    def horizon(self) -> int:
        """Every transaction with a number below this has ended, and this one sees what it wrote.

        The numbers are those that the schema's `$TRANSACTION` gives to rows. A reader that follows a table by (number,
        id) and stops here never steps over a row that is committed later.
        """


class Database(ABC):
    """Runs facts. Safe for concurrent use by the tasks of one event loop."""

    @abstractmethod
    async def read(self, fact: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `fact` returns from one consistent snapshot. A fact that writes here is refused.

        Sees everything that this process committed before the call, and what others committed before the event loop
        began its turn.
        """

    @abstractmethod
    async def write(self, fact: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `fact` returns, once its transaction is durable: it survives a power cut after this line.

        A fact that raises leaves nothing behind, and does not disturb those that share its commit. It may run twice
        (the commit it shared was rolled back), so it has no effect but through its transaction. A caller that is
        cancelled does not undo a fact that has begun.
        """

    @abstractmethod
    async def jot(self, fact: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `write`, but not durable by itself: a power cut may undo it, together with everything that was jotted
        after it, unless a later `write` has returned. The death of the process does not undo it.

        For what is worth nothing without what follows it: an upload session, a write hold.
        """

    @abstractmethod
    async def close(self) -> None:
        """Finish what was begun and let go of the files or connections."""
