"""Bringing a database to the schema that this Homeport knows: forward only, one transaction for each step.

Each step is a file of `db/schema/`, `NNNN_name.sql`; its first line says with which older Homeports a database that
has it still works: `-- compatibility: N` means those that know step N. So a release can be rolled back as long as the
newer one only added things. Holds: a database is never left between two steps.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from string import Template

from homeport.db.database import SchemaTooNew, Transaction

_FILE = re.compile(r"(\d{4})_[a-z_]+\.sql")
_COMPATIBILITY = re.compile(r"-- compatibility: (\d+)\n")


@dataclass(frozen=True, slots=True)
class Step:
    """One migration."""

    version: int
    compatibility: int
    statements: tuple[str, ...]


def steps(words: Mapping[str, str]) -> list[Step]:
    """All migrations, the oldest first; `words` are what the engine calls `$IDENTITY` and `$BYTES`."""
    found = []
    for file in files("homeport.db.schema").iterdir():
        if named := _FILE.fullmatch(file.name):
            text = file.read_text("utf-8")
            compatibility = _COMPATIBILITY.match(text)
            assert compatibility, f"{file.name} does not say with what it is compatible"
            statements = _statements(Template(text).substitute(words))
            found.append(Step(int(named[1]), int(compatibility[1]), statements))
    return sorted(found, key=lambda step: step.version)


def migrate(transact: Callable[[Callable[[Transaction], bool]], bool], known: list[Step]) -> None:
    """Apply what is missing. `transact` runs a function in a write transaction of its own, one process at a time."""
    while not transact(lambda tx: _apply_next(tx, known)):
        pass


def _apply_next(tx: Transaction, known: list[Step]) -> bool:
    """Apply one step; whether there is nothing left to do."""
    tx.run("CREATE TABLE IF NOT EXISTS schema_steps (version INTEGER PRIMARY KEY, compatibility INTEGER NOT NULL)")
    row = tx.one("SELECT coalesce(max(version), 0), coalesce(max(compatibility), 0) FROM schema_steps")
    assert row is not None
    present, compatibility = row
    newest = known[-1].version
    if present > newest and compatibility > newest:
        raise SchemaTooNew(
            f"the database has schema {present}, which needs a Homeport that knows schema {compatibility}; "
            f"this one knows {newest}. Start the newer Homeport again, or restore the backup from before the update"
        )
    waiting = [step for step in known if step.version > present]
    if not waiting:
        return True
    for statement in waiting[0].statements:
        tx.run(statement)
    tx.run("INSERT INTO schema_steps VALUES (?, ?)", (waiting[0].version, waiting[0].compatibility))
    return len(waiting) == 1


def _statements(script: str) -> tuple[str, ...]:
    found = []
    statement = ""
    for line in script.splitlines(keepends=True):
        if not statement and (not line.strip() or line.startswith("--")):
            continue
        statement += line
        if sqlite3.complete_statement(statement):
            found.append(statement.strip())
            statement = ""
    assert not statement.strip(), "a schema file ends within a statement"
    return tuple(found)
