"""Databases that fail, for testing what is built on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate

from homeport.db.database import Database, DatabaseError, P, T, Transaction


class FailingDatabase(Database):
    """Hands everything to `database`, counts it, and fails call `fail_at` (the first is 1; 0: none) with `error`.

    `forever`: and all that come after it. `done`: the transaction is committed all the same, and only its answer is
    lost. `close` does not count.
    """

    def __init__(
        self,
        database: Database,
        fail_at: int = 0,
        *,
        forever: bool = False,
        done: bool = False,
        error: Callable[[str], DatabaseError] = DatabaseError,
    ) -> None:
        self._database = database
        self._fail_at = fail_at
        self._forever = forever
        self._done = done
        self._error = error
        #: The names of the facts so far.
        self.calls: list[str] = []

    def mend(self) -> None:
        """Nothing fails any more."""
        self._fail_at = 0

    async def read(self, fact: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        fails = self._count(fact.__name__)
        result = await self._database.read(fact, *args, **kwargs)
        return self._answer(fact.__name__, result, fails=fails)

    async def write(self, fact: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        fails = self._count(fact.__name__)
        result = await self._database.write(fact, *args, **kwargs)
        return self._answer(fact.__name__, result, fails=fails)

    async def jot(self, fact: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        fails = self._count(fact.__name__)
        result = await self._database.jot(fact, *args, **kwargs)
        return self._answer(fact.__name__, result, fails=fails)

    async def close(self) -> None:
        await self._database.close()

    def _count(self, name: str) -> bool:
        """Count the call; whether it is one that fails when it is done. Raises if it fails before that."""
        self.calls.append(name)
        count = len(self.calls)
        fails = count == self._fail_at or (self._forever and 0 < self._fail_at < count)
        if fails and not (self._done and count == self._fail_at):
            raise self._failure(name)
        return fails

    def _answer(self, name: str, result: T, *, fails: bool) -> T:
        if fails:
            raise self._failure(name)
        return result

    def _failure(self, name: str) -> DatabaseError:
        return self._error(f"{name} failed because a test wanted it to")
