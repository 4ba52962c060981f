"""`homeport jobs` on a data folder: runs in the process itself, or beside a server that works on it."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from homeport.jobs.summary import Failure, Summary
from homeport.jobs.work import Run, Temporary
from homeport.kinds import Outcome
from tests.cli.doors import doors
from tests.cli.tools import CommandLine, Terminal, clean_environment
from tests.http.watching import eventually
from tests.support.processes import Homeport
from tests.support.source import ROOT

pytestmark = pytest.mark.long

#: A program whose housekeeping never ends by itself.
PATIENT = (sys.executable, "-m", "tests.cli.patient")


@pytest.fixture
def here(cli: CommandLine) -> CommandLine:
    """A folder with a data folder in which nothing has happened."""
    data = cli.folder / "homeport-data"
    data.mkdir(mode=0o700)
    (data / "homeport.db").touch()
    return cli


def ending(outcome: Outcome) -> Callable[[Run], Awaitable[Summary]]:
    async def body(run: Run) -> Summary:
        await run.say(f"ends as {outcome}")
        await run.progress(1, 2, "images", "alpine")
        return Summary(outcome, "because", {"copied": 1}, (Failure("alpine:3", "it is gone"),))

    return body


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(Outcome.SUCCESS, 0), (Outcome.ERROR, 1), (Outcome.CANCELLED, 1), (Outcome.PARTIAL, 3), (Outcome.SKIPPED, 4)],
)
def test_the_exit_code_is_the_outcome(here: CommandLine, outcome: Outcome, code: int) -> None:
    told = here.run_here("jobs", "run", "housekeeping", code=code, doors=doors(ending(outcome)))
    assert told.out.splitlines()[0] == f"ends as {outcome}"
    assert f"job 1 (housekeeping): {outcome} after " in told.out
    assert ": because\n" in told.out
    assert "copied 1" in told.out
    assert "failed: alpine:3: it is gone" in told.out


def test_json_is_one_document(here: CommandLine) -> None:
    words = ("jobs", "run", "housekeeping", "--json", "--argument", "a=b=c", "--argument", "d=")
    told = here.run_here(*words, code=3, doors=doors(ending(Outcome.PARTIAL)))
    assert told.err == ""
    assert told.json["arguments"] == {"a": "b=c", "d": ""}
    assert (told.json["state"], told.json["outcome"], told.json["summary"]["failed"]) == ("ended", "partial", 1)
    assert here.run_here("jobs", "show", "1", "--json").json == told.json
    assert here.run_here("jobs", "list", "--json").json == [told.json]
    (line,) = here.run_here("jobs", "log", "1", "--json").json
    assert (line["number"], line["text"]) == (1, "ends as partial")
    followed = here.run_here("jobs", "log", "1", "--follow", "--json")
    assert [json.loads(each) for each in followed.out.splitlines()] == [line]


def test_what_is_shown_of_a_job(here: CommandLine) -> None:
    here.run_here("jobs", "run", "housekeeping", code=3, doors=doors(ending(Outcome.PARTIAL)))
    shown = here.run_here("jobs", "show", "1").out
    for line in ("kind: housekeeping", "outcome: partial", "progress: 1 of 2 images alpine", "copied: 1"):
        assert f"{line}\n" in shown
    assert here.run_here("jobs", "log", "1").out.endswith("Z  ends as partial\n")
    listed = here.run_here("jobs", "list").out.splitlines()
    assert listed[0].split() == ["ID", "KIND", "STATE", "OUTCOME", "CREATED", "ENDED", "ACTOR", "REASON"]
    assert listed[1].split()[:4] == ["1", "housekeeping", "ended", "partial"]
    assert "no jobs" in here.run_here("jobs", "list", "--state", "waiting").err


def test_who_asked_stands_in_the_audit_log(here: CommandLine) -> None:
    here.run_here("jobs", "run", "housekeeping", doors=doors(ending(Outcome.SUCCESS)))
    here.run_here("jobs", "retry", "1")
    here.run_here("jobs", "cancel", "2")
    events = here.run_here("events", "--json").json
    kinds = ["job.requested", "housekeeping.finished", "job.retried", "job.cancelled", "housekeeping.finished"]
    assert [event["kind"] for event in events] == kinds
    assert events[0]["actor"].startswith("cli:")
    assert [event["detail"].get("outcome") for event in events if event["run"]] == ["success", "cancelled"]


def test_what_cannot_be_is_said(here: CommandLine) -> None:
    assert "there are: cleanup, housekeeping" in here.run_here("jobs", "run", "mirroring", code=1).err
    for words in (("show", "9"), ("log", "9"), ("log", "9", "--follow"), ("cancel", "9"), ("retry", "9")):
        assert "there is no job 9" in here.run_here("jobs", *words, code=1).err
    here.run_here("jobs", "run", "housekeeping", "--detach")
    assert "has not ended" in here.run_here("jobs", "retry", "1", code=1).err
    here.run_here("jobs", "cancel", "1")
    assert "has ended already" in here.run_here("jobs", "cancel", "1", code=1).err
    for wrong in ("run", "run housekeeping --argument x", "list --limit 0", "show -1"):
        here.run_here("jobs", *wrong.split(), code=2)
    twice = here.run_here("jobs", "run", "housekeeping", "--argument", "a=1", "--argument", "a=2", code=2)
    assert "each NAME has one value" in twice.err


def test_without_a_worker_a_detached_job_waits_and_that_is_said(here: CommandLine) -> None:
    told = here.run_here("jobs", "run", "housekeeping", "--detach", "--json")
    assert told.json["state"] == "waiting"
    assert "no worker runs on this data folder" in told.err
    # Who follows it then runs it.
    told = here.run_here("jobs", "run", "housekeeping", doors=doors(ending(Outcome.SUCCESS)))
    assert "job 1 (housekeeping): success" in told.out


def test_a_job_that_broke_says_why_and_shows_no_traceback(here: CommandLine) -> None:
    async def body(run: Run) -> Summary:
        raise ValueError("the disk is odd")

    told = here.run_here("jobs", "run", "housekeeping", code=1, doors=doors(body))
    assert "error" in told.out
    assert "the disk is odd" in told.out
    assert "Traceback" not in told.out


def test_the_real_job_runs_here(here: CommandLine) -> None:
    told = here.run("jobs", "run", "housekeeping", "--json")
    assert told.json["outcome"] == "success"
    assert set(told.json["summary"]["counts"]) >= {"events", "jobs", "deliveries"}


def test_a_worker_that_runs_on_the_folder_does_it(homeport: Homeport) -> None:
    homeport.start(verb="up")
    cli = CommandLine(homeport.folder)
    told = cli.run("jobs", "run", "housekeeping", "--json", "--data", str(homeport.data))
    assert told.json["outcome"] == "success"
    assert eventually(lambda: "job.started" in homeport.log)


def test_ctrl_c_cancels_what_runs_here(here: CommandLine) -> None:
    terminal = Terminal(here.folder, "jobs", "run", "housekeeping", program=PATIENT, PYTHONPATH=str(ROOT))
    terminal.wait_for("it began")
    terminal.process.send_signal(signal.SIGINT)
    assert "cancelling job 1, which runs here" in terminal.wait_for("cancelling")
    assert "job 1 (housekeeping): cancelled" in terminal.wait_for("(housekeeping): cancelled")
    assert terminal.end() == 1


def test_ctrl_c_twice_leaves_it_to_others(here: CommandLine) -> None:
    terminal = Terminal(here.folder, "jobs", "run", "housekeeping", program=PATIENT, PYTHONPATH=str(ROOT))
    terminal.wait_for("it began")
    terminal.process.send_signal(signal.SIGINT)
    terminal.wait_for("cancelling")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() in (1, 130)  # It may have been cancelled before the second one came.
    (job,) = here.run_here("jobs", "list", "--json").json
    assert job["outcome"] == "cancelled" or job["state"] == "waiting"


def test_sigterm_hands_back_what_runs_here(here: CommandLine) -> None:
    terminal = Terminal(here.folder, "jobs", "run", "housekeeping", program=PATIENT, PYTHONPATH=str(ROOT))
    terminal.wait_for("it began")
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.end() == 143
    assert "goes back to where it waits" in terminal.screen
    (job,) = here.run_here("jobs", "list", "--json").json
    assert (job["state"], job["attempts"]) == ("waiting", 0)


def test_ctrl_c_only_stops_following_what_runs_elsewhere(homeport: Homeport) -> None:
    homeport.start()  # It serves and does not work, so the job waits.
    cli = CommandLine(homeport.folder)
    token = cli.run("token", "create", "--user", "admin", "--data", str(homeport.data), "--config", "homeport.yaml")
    (cli.folder / "token").write_text(token.out)
    words = ("jobs", "run", "housekeeping", "--server", homeport.url, "--token-file", "token")
    terminal = Terminal(cli.folder, *words)
    terminal.wait_for("housekeeping: waiting")
    terminal.process.send_signal(signal.SIGINT)
    assert "job 1 goes on, and `homeport jobs cancel 1` cancels it" in terminal.wait_for("stopped following")
    assert terminal.end() == 130
    (job,) = cli.run("jobs", "list", "--json", "--data", str(homeport.data)).json
    assert job["state"] == "waiting"


def test_a_run_whose_process_dies_is_done_by_the_next(here: CommandLine) -> None:
    command = [*PATIENT, "jobs", "run", "housekeeping"]
    with subprocess.Popen(
        command,
        cwd=here.folder,
        env=clean_environment(PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"it began\n"
        process.kill()
    with sqlite3.connect(here.folder / "homeport-data/homeport.db") as database:
        database.execute("UPDATE jobs SET lease_until = 0")  # As if its minute were over.
    database.close()
    told = here.run_here("jobs", "run", "housekeeping", "--json", doors=doors(ending(Outcome.SUCCESS)))
    assert told.json["outcome"] == "success"


def test_a_job_that_wants_to_be_tried_again_is_waited_for(here: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homeport.jobs.worker.RETRY_SECONDS", 0.01)

    async def body(run: Run) -> Summary:
        if run.job.attempts == 1:
            raise Temporary("the line is down")
        await asyncio.sleep(0)
        return Summary(Outcome.SUCCESS)

    told = here.run_here("jobs", "run", "housekeeping", doors=doors(body))
    assert "the line is down (trying again" in told.out
    assert "success" in told.out
