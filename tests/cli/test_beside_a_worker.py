"""Verbs beside a process that works on the data folder: they work on its database, and on no other by mistake."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport.storage.datafolder import DataFolder, RoleLock, identity
from tests.cli.tools import CommandLine

#: What nobody has a job of by accident.
ASK = ("jobs", "run", "housekeeping", "--detach")


@pytest.fixture
def worker(cli: CommandLine) -> Iterator[RoleLock]:
    """A process that works on `homeport-data`, as far as its lock tells, and whose database is elsewhere."""
    make(cli, "homeport-data")
    lock = DataFolder(cli.folder / "homeport-data").lock("work")
    yield lock
    lock.release()


def make(cli: CommandLine, name: str) -> Path:
    """A data folder with an empty database in it; that."""
    folder = cli.folder / name
    folder.mkdir()
    database = folder / "homeport.db"
    database.touch()
    assert jobs(cli, "--data", str(folder)) == 0
    return database


def jobs(cli: CommandLine, *words: str) -> int:
    """How many jobs there are."""
    return len(cli.run("jobs", "list", "--json", *words).json)


def test_the_database_of_the_worker_is_worked_on_wherever_it_is(cli: CommandLine, worker: RoleLock) -> None:
    elsewhere = make(cli, "elsewhere")
    worker.serves("", str(elsewhere), identity(elsewhere))
    cli.run(*ASK)
    assert jobs(cli) == 1
    assert jobs(cli, "--data", str(elsewhere.parent)) == 1


def test_another_file_of_that_name_is_not_the_database_of_the_worker(cli: CommandLine, worker: RoleLock) -> None:
    """The path may be one that only the worker's container has."""
    elsewhere = make(cli, "elsewhere")
    worker.serves("", str(elsewhere), identity(cli.folder / "homeport-data"))
    cli.run(*ASK)
    assert jobs(cli) == 1
    assert jobs(cli, "--data", str(elsewhere.parent)) == 0


@pytest.mark.parametrize("database", ["homeport.db", "none.db", "/none/homeport.db"])
def test_a_worker_whose_database_is_not_to_be_found_leaves_it_to_the_settings(
    cli: CommandLine, worker: RoleLock, database: str
) -> None:
    worker.serves("", database, "")
    cli.run(*ASK)
    assert jobs(cli) == 1


def test_a_folder_may_have_another_name_here(cli: CommandLine, worker: RoleLock) -> None:
    database = cli.folder / "homeport-data" / "homeport.db"
    worker.serves("", "homeport.db", identity(database))
    (cli.folder / "link").symlink_to("homeport-data")
    cli.run(*ASK, "--data", "link")
    (cli.folder / "link").unlink()
    (cli.folder / "homeport-data").rename(cli.folder / "moved")
    assert jobs(cli, "--data", "moved") == 1
    assert "homeport-data is not there" in cli.run("jobs", "list", code=1).err


def test_a_slip_is_told_also_beside_a_worker(cli: CommandLine, worker: RoleLock) -> None:
    worker.serves("", "homeport.db", identity(cli.folder / "homeport-data" / "homeport.db"))
    assert jobs(cli) == 0
    ran = cli.run(*ASK, environ={"HOMEPORT_DTA": "/srv/registry"}, code=2)
    assert "HOMEPORT_DTA: no such setting; did you mean 'HOMEPORT_DATA'?" in ran.err
    ran = cli.run(*ASK, "--config", "none.yaml", "--data", "homeport-data", code=2)
    assert "none.yaml: cannot be read: No such file or directory" in ran.err
    (cli.folder / "homeport.yaml").write_text("dta: /srv/registry")
    assert "homeport.yaml:1: dta: no such setting" in cli.run(*ASK, code=2).err


def test_a_configuration_may_come_from_a_pipe(cli: CommandLine, worker: RoleLock) -> None:
    worker.serves("", "homeport.db", identity(cli.folder / "homeport-data" / "homeport.db"))
    make(cli, "other")
    cli.run(*ASK, "--data", "other")
    os.mkfifo(cli.folder / "fifo")
    writing = threading.Thread(target=(cli.folder / "fifo").write_text, args=("data: other",))
    writing.start()
    assert jobs(cli, "--config", "fifo") == 1
    writing.join()
