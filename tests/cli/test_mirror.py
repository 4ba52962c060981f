"""`homeport mirror` on a data folder: run, plan, status, adopt, export, release, as text and as JSON."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from homeport.app.core import open_registry
from homeport.config.settings import Settings
from homeport.events import Origin
from homeport.registry import manifests, uploads
from homeport.testing import images
from homeport.testing.images import Image
from tests.cli import upstreams
from tests.cli.tools import CommandLine
from tests.http.watching import eventually
from tests.mirror import faults
from tests.mirror.artifacts import Artifacts
from tests.mirror.upstream import Kind, Quota, Upstream
from tests.registry.world import body
from tests.support.processes import Homeport

APP = "team/app"
ADA = Origin("ada")


class Here(CommandLine):
    """A folder with a data folder and a configuration that mirrors."""

    def configure(self, *listed: dict[str, Any], upstreams: dict[str, Any] | None = None, **mirror: Any) -> None:
        """Mirror these images from now on. `referrers` are off where an image does not say so."""
        wanted = [{"referrers": False, **image} for image in listed]
        sections = {"mirror": {"images": wanted, **mirror}, "upstreams": upstreams or {}}
        (self.folder / "homeport.yaml").write_text(yaml.safe_dump(sections))

    def push(self, repository: str, image: Image, *tags: str) -> None:
        """As somebody who pushes."""
        asyncio.run(self._push(repository, image, tags))

    async def _push(self, repository: str, image: Image, tags: tuple[str, ...]) -> None:
        async with open_registry(Settings(data=self.folder / "homeport-data")) as registry:
            for data in image.blobs:
                await uploads.push(registry, ADA, repository, image.digest.of(data), body(data))
            await manifests.push(registry, ADA, repository, image.data, image.media_type, image.digest, tags)


@pytest.fixture
def here(cli: CommandLine) -> Here:
    data = cli.folder / "homeport-data"
    data.mkdir(mode=0o700)
    (data / "homeport.db").touch()
    return Here(cli.folder)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with upstreams.running() as upstream:
        yield upstream


@pytest.fixture
def made() -> Artifacts:
    return Artifacts()


@pytest.fixture
def source(upstream: Upstream) -> str:
    return f"{upstream.host}/{APP}"


# --- run --------------------------------------------------------------------------------------------------------


def test_a_run_says_what_came_and_how_it_ended(here: Here, upstream: Upstream, made: Artifacts, source: str) -> None:
    image = upstream.put(APP, made.image(), "1.0")
    here.configure({"source": source, "target": "app"})
    told = here.run_here("mirror", "run")
    size = sum(len(blob.data) for blob in image.blobs)
    assert told.out.splitlines()[0] == f"{source}:1.0 to app:1.0: new; {size} bytes came"
    assert "job 1 (mirror): success after " in told.out
    assert f"copied 1, bytes {size}, removed 0, unchanged 0, checked 1, waiting 0, theirs 0\n" in told.out
    again = here.run_here("mirror", "run", "--json").json
    assert (again["kind"], again["outcome"], again["arguments"]) == ("mirror", "success", {})
    assert (again["summary"]["counts"]["unchanged"], again["summary"]["counts"]["copied"]) == (1, 0)


def test_one_image_is_run_by_its_name_or_by_its_source(
    here: Here, upstream: Upstream, made: Artifacts, source: str
) -> None:
    for repository in (APP, "team/web"):
        upstream.put(repository, made.image(), "1.0")
    web = f"{upstream.host}/team/web"
    here.configure({"source": source, "name": "app"}, {"source": web})
    for name in ("app", source, web):
        assert here.run_here("mirror", "run", name, "--json").json["summary"]["counts"]["checked"] == 1
    told = here.run_here("mirror", "run", "other", code=1)
    assert "job 4 (mirror): error after " in told.out
    assert ": no image of the configuration is called 'other'\n" in told.out


def test_the_exit_code_says_how_it_ended(here: Here, upstream: Upstream, made: Artifacts, source: str) -> None:
    for tag in ("1.0", "2.0"):
        upstream.put(APP, made.image(), tag)
    here.configure({"source": source, "target": "app"})
    upstream.fail(Kind.GET_MANIFEST, faults.status(500), of="team/app", times=None)
    assert ": error after " in here.run_here("mirror", "run", code=1).out
    upstream.behave()
    lost = made.image().blobs[1]
    broken = upstream.put(APP, made.of_layers(lost), "3.0")
    del upstream.repositories[APP].blobs[lost.blob.digest]
    told = here.run_here("mirror", "run", code=3).out
    assert "(mirror): partial after " in told
    assert f"failed: {source}:3.0: " in told
    status = here.run_here("mirror", "status").out
    assert f"\nfailed: {source}:3.0: " in status
    assert f"\nbehind: {source}:3.0 to app:3.0: " in status
    (behind,) = here.run_here("mirror", "status", "--json").json["behind"]
    assert (behind["tag"], behind["digest"], behind["why"]) == ("3.0", broken.digest, "new")
    since = behind["since"]
    assert f"behind: {source}:3.0 to app:3.0: since {since}: " in status
    assert str(lost.blob.digest) in behind["failure"]
    settings = yaml.safe_load((here.folder / "homeport.yaml").read_text())
    settings["server"] = {"read_only": "it is being moved"}
    (here.folder / "homeport.yaml").write_text(yaml.safe_dump(settings))
    told = here.run_here("mirror", "run", code=4).out
    assert "the registry is read-only: it is being moved\n" in told
    assert "(mirror): skipped after " in told


def test_a_run_can_be_left_to_the_worker(here: Here) -> None:
    here.configure()
    assert (
        "job 1 was started; `homeport jobs log 1 --follow` shows it" in here.run_here("mirror", "run", "--detach").out
    )


def test_who_mirrors_nothing_is_told_what_is_missing(here: Here) -> None:
    here.configure()
    nothing = "nothing is mirrored: 'mirror.images' names no image, and 'mirror.follow' is not set\n"
    assert nothing in here.run_here("mirror", "run").out
    told = here.run_here("mirror", "plan")
    assert told.err == f"homeport: {nothing}"
    assert told.out.splitlines()[-1] == "a run would copy nothing"


# --- plan -------------------------------------------------------------------------------------------------------


def test_a_plan_says_what_a_run_would_do_and_why(here: Here, upstream: Upstream, made: Artifacts, source: str) -> None:
    upstream.quota = Quota(100, 76)
    image = upstream.put(APP, made.image(), "1.0")
    upstream.put(APP, made.platforms(), "2.0")
    here.push("app", images.image([b"our own"]), "1.1")
    upstream.put(APP, made.image(), "1.1")
    here.configure({"source": source, "target": "app"})
    told = here.run_here("mirror", "plan")
    lines = told.out.splitlines()
    assert lines[:2] == [f"copy {source}:1.0 to app:1.0: new", f"copy {source}:2.0 to app:2.0: new"]
    assert lines[2].startswith("leave app:1.1: somebody pushed sha256:")
    assert lines[3:] == [
        "of 3 tags that upstreams have, 0 are here as they are there",
        "a run would copy 2 images, for at least 2 pulls",
        f"{upstream.host} has 76 of 100 pulls left",
    ]
    assert told.err == "homeport: --sizes tells how large they are, and all that they cost\n"
    assert upstream.count(Kind.GET_MANIFEST) == 0

    sized = here.run_here("mirror", "plan", "--sizes")
    size = sum(len(blob.data) for blob in image.blobs)
    assert f"copy {source}:1.0 to app:1.0: new; {size / 1000:.1f} kB, 1 pull\n" in sized.out
    assert "kB, 3 pulls\n" in sized.out
    assert "has 72 of 100 pulls left" in sized.out
    assert sized.err == ""
    here.run_here("mirror", "run")
    assert upstream.quota.remaining == 72  # What was read for the sizes is not paid for again.
    assert "a run would copy nothing\n" in here.run_here("mirror", "plan").out
    assert f"quota: {upstream.host}: 72 of 100 pulls left for 192.0.2.7 at 20" in here.run_here("mirror", "status").out
    assert here.run_here("mirror", "status", "--json").json["quotas"][0]["counted_for"] == "192.0.2.7"


def test_a_plan_as_json_is_one_document(here: Here, upstream: Upstream, made: Artifacts, source: str) -> None:
    image = upstream.put(APP, made.image(), "1.0")
    here.configure({"source": source, "target": "app", "minimum_age": "1d"}, {"source": source, "target": "now"})
    found = here.run_here("mirror", "plan", "--json", code=2)
    assert "stands here twice" in found.err
    here.configure(
        {"source": source, "target": "app", "minimum_age": "1d"}, {"source": source, "target": "now", "name": "now"}
    )
    found = here.run_here("mirror", "plan", "--sizes", "--json").json
    assert (found["checked"], found["unchanged"], found["failures"], found["leaving"]) == (2, 0, [], [])
    (copy,) = found["copies"]
    size = sum(len(blob.data) for blob in image.blobs)
    assert copy == {
        "image": "now",
        "source": source,
        "source_tag": "1.0",
        "repository": "now",
        "tag": "1.0",
        "digest": image.digest,
        "why": "new",
        "bytes": size,
        "pulls": 1,
    }
    (waiting,) = found["waiting"]
    assert waiting["name"] == "app:1.0"
    assert waiting["why"].startswith("not old enough; taken after 20")


def test_a_plan_of_one_image(here: Here, upstream: Upstream, made: Artifacts, source: str) -> None:
    for repository in (APP, "team/web"):
        upstream.put(repository, made.image(), "1.0")
    here.configure({"source": source, "name": "app"}, {"source": f"{upstream.host}/team/web"})
    assert len(here.run_here("mirror", "plan", "app", "--json").json["copies"]) == 1
    told = here.run_here("mirror", "plan", "other", code=1)
    assert f"no image of the configuration is called 'other'; there are: app, {upstream.host}/team/web" in told.err


def test_a_plan_of_hundreds_has_a_line_for_each_and_its_sum_at_the_end(
    here: Here, upstream: Upstream, made: Artifacts, source: str
) -> None:
    image = made.image()
    upstream.put(APP, image, *(f"1.{number}" for number in range(300)))
    here.configure({"source": source})
    lines = here.run_here("mirror", "plan").out.splitlines()
    assert len(lines) == 302
    assert max(len(line) for line in lines) < 120
    assert lines[-1] == "a run would copy 300 images, for at least 300 pulls"


def test_a_plan_tells_of_upstreams_that_do_not_answer(
    here: Here, upstream: Upstream, made: Artifacts, source: str
) -> None:
    upstream.put(APP, made.image(), "1.0")
    upstream.fail(Kind.TAGS, faults.status(403), of="team/web")
    here.configure({"source": source}, {"source": f"{upstream.host}/team/web"})
    told = here.run_here("mirror", "plan", code=3)
    assert f"copy {source}:1.0 to " in told.out
    assert f"homeport: {upstream.host}/team/web: " in told.err
    here.configure({"source": f"{upstream.host}/team/web"})
    here.run_here("mirror", "plan", code=1)


# --- what leaves, and what is not believed ----------------------------------------------------------------------


def test_what_is_gone_upstream_is_marked_and_shown(
    here: Here, upstream: Upstream, made: Artifacts, source: str
) -> None:
    for tag in ("1.0", "1.1"):
        upstream.put(APP, made.image(), tag)
    here.configure({"source": source, "target": "app"})
    here.run_here("mirror", "run")
    upstream.untag(APP, "1.0")
    assert "app:1.0: gone upstream; it stays\n" in here.run_here("mirror", "run").out
    assert "app:1.0" not in here.run_here("mirror", "run").out
    assert "kept: app:1.0: gone upstream since 20" in here.run_here("mirror", "status").out
    assert "keep app:1.0: gone upstream since 20" in here.run_here("mirror", "plan").out
    here.configure({"source": source, "target": "app", "gone_upstream": {"remove_after": "14d"}})
    assert "; goes after 20" in here.run_here("mirror", "plan").out
    (leaving,) = here.run_here("mirror", "plan", "--json").json["leaving"]
    assert (leaving["repository"], leaving["tag"], leaving["leaving"]) == ("app", "1.0", "gone upstream")
    assert leaving["goes_at"] > leaving["since"]
    status = here.run_here("mirror", "status").out
    assert "\nleaving: app:1.0: gone upstream since " in status
    assert "; goes after 20" in status
    (marked,) = here.run_here("mirror", "status", "--json").json["leaving"]
    assert marked == {name: value for name, value in leaving.items() if name != "stays"}


def test_a_list_that_lost_too_much_is_believed_when_a_person_says_so(
    here: Here, upstream: Upstream, made: Artifacts, source: str
) -> None:
    image = made.image()
    tags = [f"1.{number}" for number in range(30)]
    upstream.put(APP, image, *tags)
    here.configure({"source": source, "target": "app", "gone_upstream": {"remove_after": "1d"}})
    here.run_here("mirror", "run")
    upstream.untag(APP, *tags[:20])
    assert f"stop {source}: " in here.run_here("mirror", "plan").out
    stopped = here.run_here("mirror", "run", code=3).out
    assert "nothing of it is removed until `homeport mirror release 2`" in stopped
    assert "(`homeport mirror release 2`)" in here.run_here("mirror", "status").out
    assert here.run_here("mirror", "status", "--json").json["stopped"][0]["source"] == source
    assert here.run_here("mirror", "release", "2").out == f"the next run believes {source}\n"
    here.run_here("mirror", "run")
    status = here.run_here("mirror", "status", "--json").json
    assert (status["stopped"], len(status["leaving"])) == ([], 20)
    for run_id in ("2", "7"):
        here.run_here("mirror", "release", run_id, code=1)
    here.run_here("mirror", "release", "soon", code=2)


def test_who_allows_no_more_pulls_need_not_say_of_how_many(here: Here, upstream: Upstream, made: Artifacts) -> None:
    upstream.put(APP, made.image(), "1.0")
    upstream.fail(Kind.GET_MANIFEST, faults.pull_limit("600"), of=APP, times=None)
    here.configure({"source": f"{upstream.host}/{APP}", "target": "app"})
    here.run_here("mirror", "run", code=1)
    (quota,) = [line for line in here.run_here("mirror", "status").out.splitlines() if line.startswith("quota: ")]
    assert quota.startswith(f"quota: {upstream.host}: 0 pulls left at 20")
    assert "; it asks to be left alone until 20" in quota
    assert f"{upstream.host} has 0 pulls left\n" in here.run_here("mirror", "plan").out


# --- whose tags these are ---------------------------------------------------------------------------------------


def test_what_scripts_pushed_is_adopted_by_name_and_digest(here: Here, upstream: Upstream, made: Artifacts) -> None:
    folder = upstream.host.replace(":", "_")
    image = upstream.put(APP, made.image(), "1.0")
    config, *layers = (blob.data for blob in image.blobs)
    pushed = images.image(layers, config=config)
    here.push(f"{folder}/{APP}", pushed, "1.0")
    here.push(f"{folder}/team/own", images.image([b"nobody else has it"]), "1")
    here.push(f"{folder}/secret/thing", images.image([b"a secret"]), "1")
    here.configure(upstreams={upstream.host: {}}, skip=[f"{folder}/secret/**"], follow=True)
    planned = here.run_here("mirror", "adopt", "--plan")
    header, first, second = planned.out.splitlines()
    assert header.split() == ["REPOSITORY", "TAG", "SOURCE", "WHY"]
    assert first.split()[:3] == [f"{folder}/{APP}", "1.0", f"{upstream.host}/{APP}"]
    assert f"upstream has its configuration {image.blobs[0].blob.digest}" in first
    assert second.split()[:3] == [f"{folder}/team/own", "1", "-"]
    assert upstream.count(Kind.HEAD_MANIFEST, of="secret/thing") == 0
    assert planned.err == ""

    plan = here.run_here("mirror", "plan").out
    assert f"follow {folder}/{APP}:1.0: upstream has its configuration " in plan
    assert f"copy {upstream.host}/{APP}:1.0 to {folder}/{APP}:1.0: was {pushed.digest}\n" in plan

    adopted = here.run_here("mirror", "adopt", "--json")
    assert [each["source"] for each in adopted.json] == [f"{upstream.host}/{APP}", None]
    assert "written down: 1 tag came from upstreams" in adopted.err
    assert [event["reason"] for event in here.run_here("events", "--kind", "mirror.adopted", "--json").json] == [
        "1 tags"
    ]
    again = here.run_here("mirror", "adopt", "--plan", "--json").json
    assert [each["repository"] for each in again] == [f"{folder}/team/own"]


def test_an_export_is_a_configuration_that_refills(
    here: Here, upstream: Upstream, made: Artifacts, source: str
) -> None:
    images = {tag: upstream.put(APP, made.image(), tag) for tag in ("1.0", "2.0")}
    image = {"source": source, "target": "app", "tags": {"glob": ["?.0"]}, "platforms": ["linux/amd64"]}
    here.configure(image)
    here.run_here("mirror", "run")
    exported = here.run_here("mirror", "export").out
    assert yaml.safe_load(exported)["mirror"]["images"] == [image | {"referrers": False}]
    empty = here.folder / "empty"
    empty.mkdir(mode=0o700)
    (empty / "homeport.db").touch()
    (here.folder / "homeport.yaml").write_text(exported)
    here.run_here("config", "check")
    words = ("--data", str(empty))
    assert here.run_here("mirror", "run", *words, "--json").json["summary"]["counts"]["copied"] == 2
    listed = here.run_here("tag", "list", "app", *words, "--json").json
    assert {row["tag"]: row["digest"] for row in listed} == {tag: image.digest for tag, image in images.items()}


# --- where it runs ----------------------------------------------------------------------------------------------


def test_nothing_is_known_before_the_first_run(here: Here) -> None:
    assert here.run_here("mirror", "status").out == "last run: none yet\n"
    assert here.run_here("mirror", "status", "--json").json == {
        "last_run": None,
        "behind": [],
        "stopped": [],
        "leaving": [],
        "quotas": [],
        "loaded_otherwise": [],
    }


def test_without_a_data_folder_nothing_is_made(cli: CommandLine) -> None:
    for words in ("run", "plan", "status", "adopt --plan", "export", "release 1"):
        told = cli.run_here("mirror", *words.split(), code=1)
        assert "homeport-data" in told.err
    assert list(cli.folder.iterdir()) == []


def test_beside_a_running_server_its_worker_does_it(
    homeport: Homeport, upstream: Upstream, made: Artifacts, source: str
) -> None:
    image = upstream.put(APP, made.image(), "1.0")
    listed = {"source": source, "target": "app", "referrers": False}
    homeport.start({"mirror": {"images": [listed], "schedule": "never"}}, verb="up")
    cli = CommandLine(homeport.folder)
    words = ("--data", str(homeport.data))
    assert "a run would copy 1 image, for at least 1 pull\n" in cli.run("mirror", "plan", *words).out
    assert cli.run("mirror", "run", *words, "--json").json["summary"]["counts"]["copied"] == 1
    assert eventually(lambda: "job.started" in homeport.log)
    assert cli.run("tag", "list", "app", *words, "--json").json[0]["digest"] == image.digest
    assert "last run: job 1: success at 20" in cli.run("mirror", "status", *words).out


def test_who_has_edited_the_file_is_told_that_a_run_goes_by_the_old_one(
    homeport: Homeport, upstream: Upstream, made: Artifacts, source: str
) -> None:
    upstream.put(APP, made.image(), "1.0")
    homeport.start({"mirror": {"schedule": "never"}}, verb="up")
    cli, words = CommandLine(homeport.folder), ("--data", str(homeport.data))
    file = homeport.folder / "homeport.yaml"
    assert cli.run("mirror", "plan", *words, "--json").json["loaded_otherwise"] == []
    assert "config reload" not in cli.run("mirror", "run", *words).err

    loaded = yaml.safe_load(file.read_text())
    images = [{"source": source, "target": "app", "referrers": False}]
    hosts = {upstream.host: {"at_once": 2}}
    edited = {**loaded, "mirror": {"schedule": "never", "images": images}, "upstreams": hosts, "log": {"level": "info"}}
    file.write_text(yaml.safe_dump(edited))
    planned = cli.run("mirror", "plan", *words)
    assert "a run would copy 1 image, for at least 1 pull\n" in planned.out
    told = (
        "homeport: a run goes by what the running server has loaded, where mirror and upstreams differ from these"
        " settings; `homeport config reload` makes it read its configuration again\n"
    )
    assert planned.err.endswith(told)
    assert cli.run("mirror", "plan", *words, "--json").json["loaded_otherwise"] == ["mirror", "upstreams"]
    assert cli.run("mirror", "status", *words).err == told
    assert cli.run("mirror", "status", *words, "--json").json["loaded_otherwise"] == ["mirror", "upstreams"]
    ran = cli.run("mirror", "run", *words)
    assert told in ran.err
    assert "copied 0, " in ran.out
    assert told in cli.run("jobs", "run", "mirror", "--detach", *words).err

    cli.run("config", "reload", *words)
    assert "config reload" not in cli.run("mirror", "plan", *words).err
    ran = cli.run("mirror", "run", *words)
    assert "copied 1, " in ran.out
    assert "config reload" not in ran.err

    homeport.stop()
    file.write_text(yaml.safe_dump(loaded))
    assert cli.run("mirror", "run", *words).err.count("config reload") == 0  # It runs here, by these settings.
