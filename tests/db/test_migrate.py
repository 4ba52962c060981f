"""Bringing a database up to date: forward only, a step is done or not, and an older Homeport knows when to stop."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from homeport.clock import SystemClock
from homeport.db import migrate, sqlite
from homeport.db.database import SchemaTooNew, Transaction
from homeport.db.migrate import Step, steps
from homeport.db.sqlite import WORDS, SqliteDatabase

ONE = Step(1, 1, ("CREATE TABLE one (x INTEGER)", "INSERT INTO one VALUES (1)"))
TWO = Step(2, 1, ("CREATE TABLE two (x INTEGER)",))
THREE = Step(3, 3, ("ALTER TABLE one ADD COLUMN y INTEGER",))

Opened = Callable[..., dict[str, object]]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Opens the database with a Homeport that knows these steps; what it then has."""

    def look(tx: Transaction) -> dict[str, object]:
        tables = [name for (name,) in tx.all("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
        return {"tables": tables, "steps": tx.all("SELECT version, compatibility FROM schema_steps ORDER BY version")}

    async def ask() -> dict[str, object]:
        database = SqliteDatabase(tmp_path / "homeport.db", SystemClock())
        try:
            return await database.read(look)
        finally:
            await database.close()

    def open_with(*known: Step) -> dict[str, object]:
        monkeypatch.setattr(sqlite, "steps", lambda words: list(known))
        return asyncio.run(ask())

    return open_with


def test_a_new_database_gets_every_step(opened: Opened) -> None:
    expected = {"tables": ["one", "schema_steps", "two"], "steps": [(1, 1), (2, 1)]}
    assert opened(ONE, TWO) == expected
    assert opened(ONE, TWO) == expected


def test_an_older_database_gets_what_it_lacks(opened: Opened) -> None:
    assert opened(ONE)["tables"] == ["one", "schema_steps"]
    assert opened(ONE, TWO, THREE)["steps"] == [(1, 1), (2, 1), (3, 3)]


def test_an_older_homeport_works_where_the_newer_one_says_so(opened: Opened) -> None:
    newer = opened(ONE, TWO)
    assert opened(ONE) == newer
    assert opened(ONE, TWO, THREE)["steps"] == [(1, 1), (2, 1), (3, 3)]


def test_an_older_homeport_stops_where_it_would_do_harm(opened: Opened) -> None:
    newer = opened(ONE, TWO, THREE)
    for known in ([ONE], [ONE, TWO]):
        with pytest.raises(SchemaTooNew, match="schema 3"):
            opened(*known)
    assert opened(ONE, TWO, THREE) == newer


def test_compatibility_is_that_of_the_least_compatible_step(opened: Opened) -> None:
    opened(ONE, TWO, THREE, Step(4, 1, ("CREATE TABLE four (x INTEGER)",)))
    with pytest.raises(SchemaTooNew):
        opened(ONE, TWO)
    assert opened(ONE, TWO, THREE)["tables"] == ["four", "one", "schema_steps", "two"]


def test_a_step_that_fails_leaves_nothing_of_itself(opened: Opened) -> None:
    broken = Step(
        2, 1, ("CREATE TABLE two (x INTEGER)", "INSERT INTO one VALUES (2)", "INSERT INTO nowhere VALUES (1)")
    )
    with pytest.raises(Exception, match="nowhere"):
        opened(ONE, broken)
    assert opened(ONE) == {"tables": ["one", "schema_steps"], "steps": [(1, 1)]}
    assert opened(ONE, TWO)["steps"] == [(1, 1), (2, 1)]


def test_many_processes_may_start_at_once(tmp_path: Path) -> None:
    script = (
        "import sys; from homeport.clock import SystemClock; from homeport.db.sqlite import SqliteDatabase; "
        "print(flush=True); input(); SqliteDatabase(sys.argv[1], SystemClock())"
    )
    for attempt in range(3):
        path = tmp_path / f"{attempt}.db"
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for process in processes:
            assert process.stdout
            process.stdout.readline()
        for process in processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        errors = [process.communicate(timeout=60)[1] for process in processes]
        assert errors == [""] * len(processes)
        connection = sqlite3.connect(path)
        versions = connection.execute("SELECT version FROM schema_steps ORDER BY version").fetchall()
        connection.close()
        assert versions == [(step.version,) for step in steps(WORDS)]


# --- the files --------------------------------------------------------------------------------------------------


def test_the_steps_are_numbered_without_a_gap() -> None:
    known = steps(WORDS)
    assert [step.version for step in known] == [*range(1, len(known) + 1)]
    assert all(1 <= step.compatibility <= step.version for step in known)


def test_the_words_of_the_engine_are_put_in() -> None:
    statements = [statement for step in steps(WORDS) for statement in step.statements]
    assert not [statement for statement in statements if "$" in statement]
    with pytest.raises(KeyError):
        steps({})


def test_a_script_is_cut_into_statements() -> None:
    script = """-- a comment
CREATE TABLE a (x TEXT DEFAULT ';'); -- one
-- another

CREATE TRIGGER t AFTER INSERT ON a BEGIN
    DELETE FROM a;
END;
"""
    create, trigger = migrate._statements(script)
    assert create.startswith("CREATE TABLE a")
    assert trigger.startswith("CREATE TRIGGER")
    assert trigger.endswith("END;")


def test_a_script_that_ends_within_a_statement_is_refused() -> None:
    for script in (
        "CREATE TABLE a (x",
        "CREATE TABLE a (x TEXT);\nCREATE TABLE b (x TEXT)",
        "INSERT INTO a VALUES (';",
    ):
        with pytest.raises(AssertionError, match="within a statement"):
            migrate._statements(script)
