"""`homeport cleanup` on a data folder: run, plan, why, release, and the clock."""

import asyncio
import sqlite3
import time
from datetime import UTC, datetime

import pytest
import yaml

from homeport.app.core import open_registry
from homeport.config.settings import Settings
from homeport.events import Origin
from homeport.garbage.guard import ClockGuard
from homeport.registry import manifests, uploads
from homeport.testing.images import Image, image
from tests.cli.tools import CommandLine
from tests.registry.world import body

DAY = 86_400.0
ADA = Origin("ada")
IMAGES = [image([b"base"], config=f'{{"n":{number}}}'.encode()) for number in range(31)]
UNTAGGED = image([b"untagged"])


class Here(CommandLine):
    """A folder with a data folder in which images of team/app lie, the first of them the oldest."""

    def fill(self, count: int) -> None:
        asyncio.run(self._push([(each, [f"v{number:02}"]) for number, each in enumerate(IMAGES[:count])]))
        now = time.time()
        for number in range(count):
            self.sql("UPDATE tags SET pushed_at = ? WHERE name = ?", now - (100 - number) * DAY, f"v{number:02}")

    def push(self, one: Image, *tags: str) -> None:
        asyncio.run(self._push([(one, list(tags))]))

    async def _push(self, wanted: list[tuple[Image, list[str]]]) -> None:
        async with open_registry(Settings(data=self.folder / "homeport-data")) as registry:
            for one, tags in wanted:
                for data in one.blobs:
                    await uploads.push(registry, ADA, "team/app", one.digest.of(data), body(data))
                await manifests.push(registry, ADA, "team/app", one.data, one.media_type, one.digest, tags)

    def age(self, days: float) -> None:
        """Let all that is promised, and every grace, have begun so long ago."""
        seconds = days * DAY
        self.sql("UPDATE links SET keep_until = keep_until - ?, released_at = released_at - ?", seconds, seconds)
        self.sql("UPDATE reviews SET due_at = due_at - ?", seconds)

    def sql(self, text: str, *values: object) -> None:
        with sqlite3.connect(self.folder / "homeport-data" / "homeport.db") as connection:
            connection.execute(text, values)
        connection.close()

    def configure(self, **sections: object) -> None:
        (self.folder / "homeport.yaml").write_text(yaml.safe_dump(sections))

    def keep(self, **rule: object) -> None:
        self.configure(cleanup={"keep": [{"repositories": "team/**", **rule}]})


@pytest.fixture
def here(cli: CommandLine) -> Here:
    data = cli.folder / "homeport-data"
    data.mkdir(mode=0o700)
    (data / "homeport.db").touch()
    return Here(cli.folder)


def day(seconds: float) -> str:
    at = datetime.fromtimestamp(seconds, UTC)
    year = "" if at.year == datetime.now(UTC).year else f" {at.year}"
    return f"{at.day} {at:%b}{year}"


# --- run --------------------------------------------------------------------------------------------------------


def test_a_run_prints_its_summary_and_a_dry_run_the_same(here: Here) -> None:
    here.fill(3)
    here.keep(newest=1)
    dry = here.run_here("cleanup", "run", "--dry-run")
    assert "job 1 (cleanup): success after " in dry.out
    assert ": nothing was removed, this was a dry run\n" in dry.out
    assert "tags 2, manifests 0," in dry.out
    ran = here.run_here("cleanup", "run")
    assert "2 of 3 tags are kept by no rule\n" in ran.out
    assert "tags 2, manifests 0," in ran.out
    assert here.run_here("tag", "list", "team/app", "--json").json[0]["tag"] == "v02"
    assert here.run_here("cleanup", "run", "--json").json["summary"]["counts"]["tags"] == 0


def test_untagged_manifests_go_at_once_where_that_is_said(here: Here) -> None:
    here.push(UNTAGGED)
    here.age(2)
    assert "manifests 0," in here.run_here("cleanup", "run").out
    assert "manifests 1," in here.run_here("cleanup", "run", "--untagged-after", "0").out
    refused = here.run_here("cleanup", "run", "--untagged-after", "soon", code=2)
    assert "'soon' must be a number of seconds, or a duration" in refused.err


def test_a_run_that_is_skipped_says_why(here: Here) -> None:
    here.configure(server={"read_only": "it is being moved"})
    skipped = here.run_here("cleanup", "run", code=4)
    assert "the registry is read-only: it is being moved\n" in skipped.out
    assert ": read-only\n" in skipped.out


def test_a_run_can_be_left_to_the_worker(here: Here) -> None:
    assert "job 1 was started" in here.run_here("cleanup", "run", "--detach").out


def test_too_many_tags_are_let_go_by_a_person(here: Here) -> None:
    here.fill(31)
    here.keep(newest=1)
    told = here.run_here("cleanup", "plan")
    assert "a run would stop and remove no tag: 30 of the 31 tags of team/app would go, and 20 may" in told.err
    stopped = here.run_here("cleanup", "run", code=3)
    assert "`homeport cleanup release 1` lets them go" in stopped.out
    assert "braked 30" in stopped.out
    assert "tags 30," in here.run_here("cleanup", "release", "1").out
    again = here.run_here("cleanup", "release", "1", code=1)
    assert "job 1 was released already, and job 2 made use of it" in again.err
    assert "job 7 is no cleanup that stopped" in here.run_here("cleanup", "release", "7", code=1).err


# --- plan -------------------------------------------------------------------------------------------------------


def test_a_plan_says_what_goes_when_and_why(here: Here) -> None:
    here.fill(3)
    here.push(UNTAGGED)
    here.age(3)
    here.keep(newest=2)
    told = here.run_here("cleanup", "plan")
    now = time.time()
    lines = told.out.splitlines()
    assert lines[:4] == [
        "team/app: 1 of 3 tags go",
        "  goes: no condition of team/** keeps it: v00",
        "  kept: newest 2 of team/app: v01, v02",
        f"  {UNTAGGED.digest} goes on {day(now + 4 * DAY)}: untagged since {day(now - 3 * DAY)}",
    ]
    assert lines[4].startswith("with the next run, on ")
    assert lines[4].endswith(": 1 of 3 tags")
    assert lines[5].startswith("in the end: 2 manifests, 3 blobs, ")
    assert len(here.run_here("tag", "list", "team/app", "--json").json) == 3


def test_a_plan_of_some_repositories_does_not_speak_of_all(here: Here) -> None:
    here.fill(31)
    here.keep(newest=1)
    told = here.run_here("cleanup", "plan", "--repository", "team/*").err
    assert "of team/app would go" in told
    assert "all repositories" not in told


def test_a_plan_for_scripts(here: Here) -> None:
    here.fill(3)
    here.keep(newest=2)
    told = here.run_here("cleanup", "plan", "--json").json
    assert (told["tags"], told["tags_going"]) == (3, 1)
    assert told["in_all"]["bytes"] == len(IMAGES[0].data) + len(IMAGES[0].blobs[-1])
    (repository,) = told["repositories"]
    assert repository["goes"] == [{"reason": "no condition of team/** keeps it", "count": 1, "tags": ["v00"]}]
    assert datetime.fromisoformat(told["next_run"]).weekday() == 6


def test_a_policy_is_tried_before_it_is_saved(here: Here) -> None:
    here.fill(3)
    here.keep(newest=2)
    tried = here.folder / "cleanup.yaml"
    tried.write_text("cleanup:\n  keep:\n    - {repositories: 'team/**', newest: 1}\n")
    assert "2 of 3 tags go" in here.run_here("cleanup", "plan", "--policy", "cleanup.yaml").out
    tried.write_text("repositories:\n  protected: ['team/*']\n")
    assert (
        "kept: protected repository (team/*): v00" in here.run_here("cleanup", "plan", "--policy", "cleanup.yaml").out
    )
    tried.write_text("cleanup:\n  keep:\n    - {repositories: 'team/**', newest: 0}\n")
    refused = here.run_here("cleanup", "plan", "--policy", "cleanup.yaml", code=2)
    assert refused.err == "homeport: cleanup.yaml:3: cleanup.keep[0].newest: must be at least 1\n"
    tried.write_text("cleanup:\n  keeps: []\n")
    assert (
        "cleanup.yaml:2: cleanup.keeps: no such setting"
        in here.run_here("cleanup", "plan", "--policy", "cleanup.yaml", code=2).err
    )
    tried.write_text("log: {level: error}\n")
    refused = here.run_here("cleanup", "plan", "--policy", "cleanup.yaml", code=2)
    assert "has neither 'cleanup' nor 'repositories'" in refused.err


def test_a_plan_of_some_repositories_or_of_every_tag(here: Here) -> None:
    here.fill(12)
    assert "and 2 more" in here.run_here("cleanup", "plan").out
    assert "v11" in here.run_here("cleanup", "plan", "--all").out
    assert "team/app" not in here.run_here("cleanup", "plan", "--repository", "other/**").out


def test_a_plan_names_engines_that_never_told(here: Here) -> None:
    here.configure(in_use={"engines": {"swarm": {"url": "unix:///nonexistent"}}})
    told = here.run_here("cleanup", "plan")
    assert "engine swarm has never told what it runs: no tag goes until it does" in told.err


# --- why --------------------------------------------------------------------------------------------------------


def test_why_a_tag_stays_or_goes(here: Here) -> None:
    here.fill(2)
    assert here.run_here("cleanup", "why", "team/app:v01").out == "kept: no rule is about it\n"
    here.keep(newest=1)
    assert here.run_here("cleanup", "why", "team/app:v01").out == "kept: newest 1 of team/app\n"
    gone = here.run_here("cleanup", "why", "team/app:v00").out
    assert gone.startswith("goes on ")
    assert gone.endswith(": no condition of team/** keeps it\n")
    told = here.run_here("cleanup", "why", "team/app:v00", "--json").json
    assert (told["keeps"], told["reasons"][0]["keeps"]) == (False, False)
    assert told["reasons"][0]["until"].endswith("T03:00:00Z")
    here.configure(cleanup={"schedule": "never", "keep": [{"repositories": "**", "newest": 1}]})
    assert here.run_here("cleanup", "why", "team/app:v00").out.startswith("goes with the next run: ")


def test_why_a_manifest_or_blob_stays_or_goes(here: Here) -> None:
    here.fill(1)
    here.push(UNTAGGED)
    now = time.time()
    digest, layer = IMAGES[0].digest, IMAGES[0].digest.of(IMAGES[0].blobs[0])
    kept = here.run_here("cleanup", "why", f"team/app@{digest}").out.splitlines()
    assert kept == ["kept: tag v00", f"kept until {day(now + DAY)}: a client may rely on it"]
    here.age(3)
    assert here.run_here("cleanup", "why", f"team/app@{layer}").out == f"kept: {digest} names it\n"
    told = here.run_here("cleanup", "why", f"team/app@{UNTAGGED.digest}").out
    assert told == f"goes on {day(now + 4 * DAY)}: untagged since {day(now - 3 * DAY)}\n"
    here.age(5)
    told = here.run_here("cleanup", "why", f"team/app@{UNTAGGED.digest}").out
    assert told == f"goes now: untagged since {day(now - 8 * DAY)}\n"


def test_why_of_a_whole_repository(here: Here) -> None:
    here.fill(2)
    here.push(UNTAGGED)
    here.age(3)
    here.keep(newest=1)
    lines = here.run_here("cleanup", "why", "team/app").out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["team/app:v00", "goes"],
        ["team/app:v01", "kept:"],
        [f"team/app@{UNTAGGED.digest}", "goes"],
    ]
    told = here.run_here("cleanup", "why", "team/app", "--json").json
    assert [each["name"] for each in told] == [line.split()[0] for line in lines]


def test_why_of_what_is_not_there(here: Here) -> None:
    here.fill(1)
    assert here.run_here("cleanup", "why", "team/none", code=1).err
    assert "team/app:none" in here.run_here("cleanup", "why", "team/app:none", code=1).err
    assert here.run_here("cleanup", "why", f"team/app@{UNTAGGED.digest}", code=1).err
    assert here.run_here("cleanup", "why", "team/app@latest", code=1).err


# --- the clock --------------------------------------------------------------------------------------------------


def test_a_person_says_that_the_clock_is_right(here: Here) -> None:
    assert here.run_here("cleanup", "confirm-clock").out == "nothing had been stopped\n"
    here.sql("UPDATE cleanup_clock SET seen_at = seen_at + 1e6")

    async def look() -> None:
        async with open_registry(Settings(data=here.folder / "homeport-data")) as registry:
            assert await ClockGuard(registry).stopped() is not None

    asyncio.run(look())
    assert "confirm-clock" in here.run_here("cleanup", "run", code=4).out
    assert "things are deleted again; it had been stopped: " in here.run_here("cleanup", "confirm-clock").out
    here.run_here("cleanup", "run")
