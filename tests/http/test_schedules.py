"""Homeport's own schedule, in the program as it runs."""

import sqlite3
from contextlib import closing
from typing import Any

from tests.cli.tools import CommandLine
from tests.http.watching import eventually, reload
from tests.support.processes import Config, Homeport

NEVER_TODAY = "0 0 1 1 *"


def config(schedule: str) -> Config:
    return {"housekeeping": {"schedule": schedule}, "cleanup": {"schedule": "never"}, "log": {"format": "json"}}


def query(homeport: Homeport, sql: str) -> list[tuple[Any, ...]]:
    """What the database answers."""
    with closing(sqlite3.connect(homeport.data / "homeport.db", isolation_level=None)) as database:
        return database.execute(sql).fetchall()


def schedules(homeport: Homeport) -> list[tuple[str, str]]:
    return [(name, expression) for name, expression in query(homeport, "SELECT name, expression FROM schedules")]


def jobs(homeport: Homeport) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        CommandLine(homeport.folder).run("jobs", "list", "--data", str(homeport.data), "--json").json
    )
    return found


def test_what_was_due_while_it_was_down_starts_once(homeport: Homeport) -> None:
    homeport.start(config(NEVER_TODAY), verb="up")
    homeport.stop()
    due = query(homeport, "UPDATE schedules SET next_at = 86400 RETURNING name")  # Since January of 1970.
    assert due == [("housekeeping",)]

    homeport.start(config(NEVER_TODAY), verb="up")
    assert eventually(lambda: [job["outcome"] for job in jobs(homeport)] == ["success"]), homeport.log
    homeport.stop()
    homeport.start(config(NEVER_TODAY), verb="up")
    homeport.stop()

    (job,) = jobs(homeport)
    assert (job["kind"], job["schedule"], job["actor"]) == ("housekeeping", "housekeeping", "system")
    told = query(homeport, "SELECT run FROM events WHERE kind = 'housekeeping.finished'")
    assert told == [(f"job-{job['id']}",)]


def test_a_changed_schedule_counts_without_a_restart(homeport: Homeport) -> None:
    homeport.start(config(NEVER_TODAY), verb="up")
    assert schedules(homeport) == [("housekeeping", NEVER_TODAY)]
    reload(homeport, config("0 0 1 7 *"))
    assert eventually(lambda: schedules(homeport) == [("housekeeping", "0 0 1 7 *")])
    reload(homeport, config("never"))
    assert eventually(lambda: schedules(homeport) == [])
