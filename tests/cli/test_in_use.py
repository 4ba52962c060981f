"""`homeport in-use`, as a person and a script run it, beside engines that answer and that do not."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.cli.tools import CommandLine
from tests.support.engines import DIGEST, ID, LittleEngine, on_socket


@contextmanager
def running(path: Path) -> Iterator[LittleEngine]:
    """An engine in a thread of its own."""
    loop = asyncio.new_event_loop()
    serving = on_socket(path)
    engine = loop.run_until_complete(serving.__aenter__())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield engine
    finally:
        asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def configure(cli: CommandLine, **urls: str) -> None:
    engines = {name: {"url": url} for name, url in urls.items()}
    (cli.folder / "homeport.yaml").write_text(yaml.safe_dump({"in_use": {"engines": engines}}))


@pytest.fixture
def prepared(cli: CommandLine) -> CommandLine:
    """With a data folder."""
    cli.run_here("user", "add", "ada", "--generate")
    return cli


def test_without_engines_nobody_says_what_runs(prepared: CommandLine) -> None:
    told = prepared.run_here("in-use")
    assert told.out == ""
    assert told.err == "homeport: no engine is configured under 'in_use', so nobody says what runs\n"
    assert prepared.run_here("in-use", "--json").json == []
    assert prepared.run_here("in-use", "--refresh", "--json").json == []


def test_what_runs_is_a_table_with_who_runs_it(prepared: CommandLine, tmp_path: Path) -> None:
    with running(tmp_path / "engine.sock") as engine:
        configure(prepared, here=engine.url)
        told = prepared.run_here("in-use")
        assert "nothing is known to run; `homeport in-use --refresh` asks the engines" in told.err
        assert "engine here has not been asked yet" in told.err
        told = prepared.run_here("in-use", "--refresh")
        assert told.err == ""
    head, *rows = told.out.splitlines()
    assert head.split("  ")[0] == "DIGEST"
    assert [row.split()[:5] for row in rows] == [
        [digest, "container", "web", "node-1", "runs"] for digest in sorted((ID, DIGEST))
    ]
    assert rows[0].endswith("Z  registry.lan/team/app:1")
    row = prepared.run_here("in-use", "--json").json[0]
    assert (row["digest"], row["engine"], row["why"]) == (ID, "here", "container web runs it on node-1")


def test_an_engine_that_does_not_answer_is_told_beside_what_it_ran(prepared: CommandLine, tmp_path: Path) -> None:
    with running(tmp_path / "engine.sock") as engine:
        configure(prepared, here=engine.url, dead=f"unix://{tmp_path}/nothing.sock")
        told = prepared.run_here("in-use", "--refresh", code=3)
        assert "engine dead has not answered since 2" in told.err
        assert "and it never told what it runs: unix://" in told.err
        assert "here" not in told.err
    told = prepared.run_here("in-use", "--refresh", "--json", code=1)
    assert {row["digest"] for row in told.json} == {ID, DIGEST}
    assert "engine here has not answered since 2" in told.err
    assert "and what it last ran, at 2" in told.err
    assert "Z, stays: unix://" in told.err
    assert prepared.run_here("in-use").err == told.err


def test_an_engine_of_another_configuration_is_told(prepared: CommandLine, tmp_path: Path) -> None:
    with running(tmp_path / "engine.sock") as engine:
        configure(prepared, here=engine.url)
        prepared.run_here("in-use", "--refresh")
        configure(prepared)
        told = prepared.run_here("in-use", "--refresh")
    assert "engine here is not in this configuration" in told.err
    assert DIGEST in told.out, "a slip in the configuration of a command takes nothing away"


@pytest.mark.parametrize(
    ("engine", "why"),
    [
        ({"url": "docker.lan:2376"}, "must be where a container engine listens"),
        ({"url": "unix://var/run/docker.sock"}, "must be where a container engine listens"),
        ({"url": "https://docker.lan:2376"}, "must be where a container engine listens"),
        ({"url": "tcp://docker.lan:2376/v1.41"}, "must be where a container engine listens"),
        ({"url": "tcp://ada:secret@docker.lan"}, "must be where a container engine listens"),
        ({"url": "unix:///docker.sock", "ca": "/ca.pem"}, "which only tcp:// has"),
        ({"url": "http://docker.lan:2375", "certificate": "/c.pem", "key": "/k.pem"}, "which only tcp:// has"),
        ({"url": "tcp://docker.lan", "key": "/k.pem"}, "'certificate' and 'key' go together"),
        ({}, "is missing"),
    ],
)
def test_an_engine_that_cannot_be_asked_is_refused(cli: CommandLine, engine: dict[str, str], why: str) -> None:
    (cli.folder / "homeport.yaml").write_text(yaml.safe_dump({"in_use": {"engines": {"here": engine}}}))
    assert why in cli.run_here("config", "check", code=2).err
