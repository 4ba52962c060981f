"""The contract of `Database` as tests: what every implementation passes.

    class TestMyDatabase(DatabaseSuite):
        @pytest.fixture
        def open_database(self) -> Callable[[], Database]: ...

`open_database` opens a database that has no rows when a test begins. `SharedDatabaseSuite` is for one that outlives the
process and that others may open at the same time; it also wants `opener`, Python statements that another process runs
to have `database` open.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from typing import NoReturn

import pytest

from homeport import events
from homeport.clock import SystemClock
from homeport.db.database import ConstraintViolated, Database, DatabaseError, Transaction
from homeport.events import START, SYSTEM

#: How long a test waits for another thread or process before it fails.
PATIENCE_SECONDS = 20


class FactFailed(Exception):
    """What a test's fact raises."""


# --- facts ------------------------------------------------------------------------------------------------------


def create(tx: Transaction) -> None:
    tx.run(
        "CREATE TABLE items (name TEXT NOT NULL PRIMARY KEY, number BIGINT NOT NULL CHECK (number < 1000000),"
        " parent TEXT REFERENCES items (name))"
    )


def add(tx: Transaction, name: str, number: int = 0, parent: str | None = None) -> str:
    tx.run("INSERT INTO items (name, number, parent) VALUES (?, ?, ?)", (name, number, parent))
    return name


def add_and_fail(tx: Transaction, name: str, error: type[BaseException] = FactFailed) -> NoReturn:
    add(tx, name)
    raise error(name)


def increase(tx: Transaction, name: str) -> int:
    """Read, then write what was read and one more: right only if nobody writes in between."""
    number = get(tx, name)
    assert number is not None
    tx.run("UPDATE items SET number = ? WHERE name = ?", (number + 1, name))
    return number + 1


def get(tx: Transaction, name: str) -> int | None:
    row = tx.one("SELECT number FROM items WHERE name = ?", (name,))
    return row[0] if row else None


def tell(tx: Transaction, name: str, number: int) -> None:
    """Write an event, and take long enough that another process may be doing so too."""
    events.append(tx, SystemClock(), "tag.set", SYSTEM, reason=f"{name}{number}")
    tx.one("SELECT count(*) FROM events")


def names(tx: Transaction) -> list[str]:
    return [name for (name,) in tx.all("SELECT name FROM items ORDER BY name")]


class DatabaseSuite:
    """Derive from it, and override `open_database`."""

    @pytest.fixture
    def open_database(self) -> Callable[[], Database]:
        raise NotImplementedError

    @pytest.fixture
    async def database(self, open_database: Callable[[], Database]) -> AsyncIterator[Database]:
        database = open_database()
        await database.write(create)
        yield database
        await database.close()

    # --- what a fact sees and returns ---------------------------------------------------------------------------

    async def test_what_was_written_is_read(self, database: Database) -> None:
        assert await database.write(add, "a", number=7) == "a"
        assert await database.read(get, "a") == 7
        assert await database.read(get, "b") is None

    async def test_what_was_jotted_is_read(self, database: Database) -> None:
        """`jot` is `write` but for a power cut, which no test can bring about from here."""
        assert await database.jot(add, "a", number=7) == "a"
        assert await database.read(get, "a") == 7
        asks = (database.jot, database.write, database.jot)
        assert await asyncio.gather(*(ask(increase, "a") for ask in asks)) == [8, 9, 10]
        with pytest.raises(FactFailed):
            await database.jot(add_and_fail, "b")
        with pytest.raises(ConstraintViolated):
            await database.jot(add, "a")
        assert await database.read(names) == ["a"]

    async def test_a_fact_sees_what_it_wrote(self, database: Database) -> None:
        def fact(tx: Transaction) -> list[int]:
            add(tx, "a")
            return [increase(tx, "a"), increase(tx, "a")]

        assert await database.write(fact) == [1, 2]

    async def test_each_caller_gets_its_own_result(self, database: Database) -> None:
        wanted = [f"{number:04}" for number in range(1000)]
        assert await asyncio.gather(*(database.write(add, name) for name in wanted)) == wanted
        assert await database.read(names) == wanted

    async def test_facts_do_not_interleave(self, database: Database) -> None:
        await database.write(add, "a")
        assert sorted(await asyncio.gather(*(database.write(increase, "a") for _ in range(300)))) == [*range(1, 301)]

    async def test_the_number_of_changed_rows(self, database: Database) -> None:
        def fact(tx: Transaction) -> list[int]:
            return [
                tx.run("INSERT INTO items (name, number) VALUES ('a', 1), ('b', 2)"),
                tx.run("INSERT INTO items (name, number) VALUES ('a', 3) ON CONFLICT (name) DO NOTHING"),
                tx.run("UPDATE items SET number = 5 WHERE number > ?", (0,)),
                tx.run("UPDATE items SET number = 5 WHERE number > ?", (9,)),
                tx.run("DELETE FROM items"),
            ]

        assert await database.write(fact) == [2, 0, 2, 0, 2]

    async def test_a_statement_that_returns_rows(self, database: Database) -> None:
        def fact(tx: Transaction) -> object:
            return tx.one("INSERT INTO items (name, number) VALUES ('a', 4) RETURNING name, number")

        assert await database.write(fact) == ("a", 4)
        assert await database.read(get, "a") == 4

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            ("TEXT", ""),
            ("TEXT", "é\U0001f600 ' \" \\ ? $1 %s\n"),
            ("BIGINT", 0),
            ("BIGINT", 2**63 - 1),
            ("BIGINT", -(2**63)),
            ("DOUBLE PRECISION", 1767225600.123457),
            ("DOUBLE PRECISION", -0.1),
            ("TEXT", None),
        ],
    )
    async def test_values_come_back_as_they_were(
        self, database: Database, kind: str, value: str | int | float | None
    ) -> None:
        def fact(tx: Transaction) -> object:
            tx.run(f"CREATE TABLE kept (value {kind})")
            tx.run("INSERT INTO kept VALUES (?)", (value,))
            return tx.one("SELECT value FROM kept")

        assert await database.write(fact) == (value,)

    @pytest.mark.parametrize("data", [b"", b"\0\xff'", bytes(range(256)) * 4096])
    async def test_bytes_come_back_as_they_were(self, database: Database, data: bytes) -> None:
        def fact(tx: Transaction) -> object:
            # A table of our own schema, whose column is of whatever type this engine has for bytes.
            tx.run("INSERT INTO signing_keys (id, secret, created_at) VALUES ('a', ?, 0)", (data,))
            return tx.one("SELECT secret, length(secret) FROM signing_keys")

        assert await database.write(fact) == (data, len(data))

    async def test_digests_are_locked_whether_they_have_a_row_or_not(self, database: Database) -> None:
        def fact(tx: Transaction) -> str:
            tx.lock(["sha256:b", "sha256:a", "sha256:a"])
            tx.lock([], exclusive=True)
            tx.lock(iter(["sha256:c"]), exclusive=True)
            return add(tx, "a")

        assert await database.write(fact) == "a"

    # --- what fails ---------------------------------------------------------------------------------------------

    async def test_a_fact_that_fails_leaves_nothing(self, database: Database) -> None:
        with pytest.raises(FactFailed, match="a"):
            await database.write(add_and_fail, "a")
        assert await database.read(names) == []
        await database.write(add, "a")

    async def test_a_fact_that_fails_disturbs_no_other(self, database: Database) -> None:
        facts: list[Callable[[Transaction, str], str]] = [add, add_and_fail, add_and_fail] * 30
        outcomes = await asyncio.gather(
            *(database.write(fact, f"{number:02}") for number, fact in enumerate(facts)), return_exceptions=True
        )
        kept = [f"{number:02}" for number in range(0, 90, 3)]
        assert [outcome for outcome in outcomes if isinstance(outcome, str)] == kept
        assert sum(isinstance(outcome, FactFailed) for outcome in outcomes) == 60
        assert await database.read(names) == kept

    @pytest.mark.parametrize(
        ("name", "number", "parent"),
        [("there", 0, None), (None, 0, None), ("a", 1000000, None), ("a", 0, "nobody")],
        ids=["unique", "not null", "check", "foreign key"],
    )
    async def test_a_row_that_breaks_a_rule(
        self, database: Database, name: str, number: int, parent: str | None
    ) -> None:
        await database.write(add, "there")
        others = [asyncio.ensure_future(database.write(add, other)) for other in "xy"]
        with pytest.raises(ConstraintViolated):
            await database.write(add, name, number, parent)
        await asyncio.gather(*others)
        assert await database.read(names) == ["there", "x", "y"]

    async def test_sql_that_is_none(self, database: Database) -> None:
        def fact(tx: Transaction) -> None:
            add(tx, "a")
            tx.run("SELEKT 1")

        with pytest.raises(DatabaseError):
            await database.write(fact)
        assert await database.read(names) == []

    @pytest.mark.parametrize(
        "error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, StopIteration, RecursionError]
    )
    async def test_whatever_a_fact_raises_the_others_go_on(
        self, database: Database, error: type[BaseException]
    ) -> None:
        before = asyncio.ensure_future(database.write(add, "before"))
        wanted = RuntimeError if error is StopIteration else error  # No coroutine can raise that one.
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(wanted):
                await database.write(add_and_fail, "a", error)
            await before
            await database.write(add, "after")
        assert await database.read(names) == ["after", "before"]

    async def test_a_read_that_fails_disturbs_nobody(self, database: Database) -> None:
        def fact(tx: Transaction) -> None:
            tx.one("SELECT 1 FROM items")
            raise FactFailed

        with pytest.raises(FactFailed):
            await database.read(fact)
        await database.write(add, "a")
        assert await database.read(names) == ["a"]

    async def test_a_read_does_not_write(self, database: Database) -> None:
        with pytest.raises(DatabaseError):
            await database.read(add, "a")
        assert await database.read(names) == []
        await database.write(add, "a")
        with pytest.raises(DatabaseError):
            await database.read(increase, "a")
        assert await database.read(get, "a") == 0

    async def test_whoever_is_woken_by_a_write_sees_it(self, database: Database) -> None:
        """However many read in the same turn of the event loop, before and after."""
        await database.write(add, "a")
        done = 0
        seen: list[tuple[int, int | None]] = []

        async def write() -> None:
            nonlocal done
            for _ in range(50):
                await database.write(increase, "a")
                done += 1
                seen.append((done, await database.read(get, "a")))

        async def read() -> None:
            while done < 50:
                seen.append((done, await database.read(get, "a")))
                await asyncio.sleep(0)

        await asyncio.gather(write(), *(read() for _ in range(4)))
        assert all(read is not None and read >= written for written, read in seen)

    # --- callers that go away -----------------------------------------------------------------------------------

    async def test_a_caller_that_goes_away_disturbs_nobody(self, database: Database) -> None:
        for turns in range(4):
            tasks = [asyncio.ensure_future(database.write(add, f"{turns}{name}")) for name in "abc"]
            for _ in range(turns):
                await asyncio.sleep(0)
            tasks[1].cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert (outcomes[0], outcomes[2]) == (f"{turns}a", f"{turns}c")
            kept = await database.read(names)
            assert {f"{turns}a", f"{turns}c"} <= set(kept)
            assert outcomes[1] != f"{turns}b" or f"{turns}b" in kept

    async def test_closing_finishes_what_was_begun(self, open_database: Callable[[], Database]) -> None:
        database = open_database()
        await database.write(create)
        writing = [asyncio.ensure_future(database.write(add, name)) for name in "abc"]
        await asyncio.sleep(0)
        await database.close()
        assert await asyncio.gather(*writing) == ["a", "b", "c"]


class SharedDatabaseSuite(DatabaseSuite):
    """For databases that last, and that other processes open at the same time. Override `opener`, too."""

    @pytest.fixture
    def opener(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def elsewhere(self, opener: str) -> Callable[[str], subprocess.Popen[str]]:
        """Runs Python statements in another process, in which `database` is open and this module is imported."""

        def run(statements: str) -> subprocess.Popen[str]:
            body = textwrap.indent(textwrap.dedent(f"{opener}\n") + textwrap.dedent(statements), "    ")
            script = (
                "import asyncio\nfrom homeport.testing.database_suite import *\n"
                f"async def main():\n{body}\n    await database.close()\nasyncio.run(main())\n"
            )
            return subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )

        return run

    async def test_what_was_written_is_there_after_reopening(self, open_database: Callable[[], Database]) -> None:
        for count in range(3):
            database = open_database()
            if count == 0:
                await database.write(create)
            await database.write(add, str(count))
            assert await database.read(names) == [str(number) for number in range(count + 1)]
            await database.close()

    async def test_what_another_process_wrote_is_seen_at_once(
        self, database: Database, elsewhere: Callable[[str], subprocess.Popen[str]]
    ) -> None:
        await database.write(add, "mine")
        other = elsewhere("""
            for name in "abc":
                await database.write(add, name)
                print(await database.read(names), flush=True)
                input()
        """)
        assert other.stdin
        assert other.stdout
        for count in range(1, 4):
            expected = [*"abc"[:count], "mine"]
            assert other.stdout.readline().strip() == str(expected)
            await asyncio.sleep(0)  # The reads of one turn of the event loop may share a snapshot.
            assert await database.read(names) == expected
            print(file=other.stdin, flush=True)
        other.communicate(timeout=PATIENCE_SECONDS)
        assert other.returncode == 0

    async def test_two_processes_write_at_once(
        self, database: Database, elsewhere: Callable[[str], subprocess.Popen[str]]
    ) -> None:
        await database.write(add, "a")
        other = elsewhere("""
            print(flush=True)
            for _ in range(100):
                await database.write(increase, "a")
        """)
        assert other.stdout
        other.stdout.readline()
        for _ in range(100):
            await database.write(increase, "a")
        await asyncio.to_thread(other.communicate, timeout=PATIENCE_SECONDS)
        assert other.returncode == 0
        assert await database.read(get, "a") == 200

    async def test_who_follows_the_log_steps_over_nothing(
        self, database: Database, elsewhere: Callable[[str], subprocess.Popen[str]]
    ) -> None:
        others = [
            elsewhere(f"""
                for number in range(100):
                    await database.write(tell, "{name}", number)
            """)
            for name in "ab"
        ]
        position, found = START, list[str]()
        while len(found) < 200:
            assert all(other.poll() in (None, 0) for other in others)
            for event in await database.read(events.after, position, 7):
                position = event.position
                found.append(event.reason or "")
            await asyncio.sleep(0)
        for other in others:
            await asyncio.to_thread(other.communicate, timeout=PATIENCE_SECONDS)
        assert await database.read(events.after, position) == []
        for name in "ab":
            assert [told for told in found if told[0] == name] == [f"{name}{number}" for number in range(100)]

    async def test_a_fact_reads_one_snapshot(
        self, database: Database, elsewhere: Callable[[str], subprocess.Popen[str]]
    ) -> None:
        await database.write(add, "a")

        def fact(tx: Transaction) -> tuple[int | None, int | None]:
            first = get(tx, "a")
            other = elsewhere('await database.write(increase, "a")')
            other.communicate(timeout=PATIENCE_SECONDS)
            assert other.returncode == 0
            return first, get(tx, "a")

        assert await database.read(fact) == (0, 0)
        await asyncio.sleep(0)
        assert await database.read(get, "a") == 1

    async def test_what_was_written_survives_the_process(
        self, database: Database, elsewhere: Callable[[str], subprocess.Popen[str]]
    ) -> None:
        other = elsewhere("""
            async def add_many(prefix):
                for number in range(10_000):
                    ask = database.write if number % 2 else database.jot
                    print(await ask(add, f"{prefix}{number}"), flush=True)
            await asyncio.gather(*(add_many(prefix) for prefix in "abcd"))
        """)
        assert other.stdout
        told = [other.stdout.readline().strip() for _ in range(100)]
        other.kill()
        rest, _ = other.communicate(timeout=PATIENCE_SECONDS)
        told += rest.split("\n")[:-1]  # The last line may be half of one.
        kept = await database.read(names)
        assert len(told) >= 100
        assert set(told) <= set(kept)
        await database.write(add, "z")
