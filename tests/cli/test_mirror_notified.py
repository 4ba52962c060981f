"""Who is told how a run of the mirror ended: a program and a chat, by a running server; and its exit code."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli import upstreams
from tests.cli.tools import CommandLine
from tests.mirror import faults
from tests.mirror.artifacts import Artifacts
from tests.mirror.upstream import Kind, Upstream
from tests.support.processes import Homeport
from tests.support.receivers import Receiver

APP = "team/app"
SECONDS_MAX = 30


class Told:
    """A server that mirrors and tells a program and a chat of it."""

    def __init__(self, homeport: Homeport, upstream: Upstream) -> None:
        self.upstream = upstream
        self.program, self.chat = Receiver(), Receiver()
        self._homeport = homeport

    def start(self, **sections: Any) -> None:
        """Start the server, which mirrors one repository."""
        images = [{"source": f"{self.upstream.host}/{APP}", "target": "app", "referrers": False}]
        notify = {
            "program": {"url": self.program.url, "on": ["mirror.*"]},
            "people": {"url": f"{self.chat.url}/mirrors", "format": "ntfy", "on": ["mirror.finished"]},
        }
        mirror = {"images": images, "schedule": "never"}
        self._homeport.start({"mirror": mirror, "notify": notify, **sections}, verb="up")

    def run(self, code: int) -> tuple[dict[str, Any], str, str]:
        """A run, whose exit code is `code`: what the program was sent, and title and text that people read."""
        self.only_run(code)
        program, chat = next_of(self.program), next_of(self.chat)
        assert program["type"] == "mirror.finished"
        return program["data"], chat["title"], chat["message"]

    def only_run(self, code: int) -> None:
        """A run, whose exit code is `code`."""
        words = ("mirror", "run", "--data", str(self._homeport.data))
        CommandLine(self._homeport.folder).run(*words, code=code)


def next_of(receiver: Receiver) -> dict[str, Any]:
    """What it was sent next."""
    deadline = time.monotonic() + SECONDS_MAX
    while not receiver.received:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    found: dict[str, Any] = receiver.received.pop(0).json
    return found


@pytest.fixture
def told(homeport: Homeport) -> Iterator[Told]:
    with upstreams.running() as upstream:
        told = Told(homeport, upstream)
        with told.program, told.chat:
            yield told
            homeport.kill()


def test_success_partial_and_error_are_told_with_what_failed_and_why(told: Told) -> None:
    made, upstream = Artifacts(), told.upstream
    image = upstream.put(APP, made.image(), "1.0")
    size = sum(len(blob.data) for blob in image.blobs)
    told.start()
    data, title, text = told.run(0)
    assert (data["kind"], data["actor"], data["run"], data["repository"]) == (
        "mirror.finished",
        "system",
        "job-1",
        None,
    )
    detail = data["detail"]
    assert (detail["outcome"], detail["failed"], detail["failures"], detail["reason"]) == ("success", 0, [], None)
    names = ("copied", "bytes", "removed", "unchanged", "checked", "waiting", "theirs")
    assert tuple(detail["counts"]) == names
    assert (detail["counts"]["copied"], detail["counts"]["bytes"]) == (1, size)
    assert title.startswith("Mirror: success - 1 copied, ")
    assert text.startswith("success: Nothing failed.\n1 copied, ")

    upstream.put(APP, made.image(), "1.1")
    broken = upstream.put(APP, made.image(), "2.0")
    lost = broken.blobs[1].blob.digest
    del upstream.repositories[APP].blobs[lost]
    data, title, text = told.run(3)
    detail = data["detail"]
    assert (detail["outcome"], detail["failed"], detail["counts"]["copied"]) == ("partial", 1, 1)
    (failure,) = detail["failures"]
    assert failure["what"] == f"{upstream.host}/{APP}:2.0"
    assert str(lost) in failure["why"]
    assert title.startswith("Mirror: partial - 1 copied, ")
    assert ", 1 failed, in " in title
    assert f"\n- {upstream.host}/{APP}:2.0: " in text

    upstream.fail(Kind.TAGS, faults.status(403))
    data, title, text = told.run(1)
    detail = data["detail"]
    assert (detail["outcome"], detail["failed"]) == ("error", 1)
    assert "403" in detail["failures"][0]["why"]
    assert title.startswith("Mirror: error - 1 failed, in ")
    assert f"\n- {upstream.host}/{APP}: " in text
    assert told.program.received == told.chat.received == []


def test_a_run_that_is_skipped_is_told_with_the_reason(told: Told) -> None:
    told.upstream.put(APP, Artifacts().image(), "1.0")
    told.start(server={"read_only": "it is being moved"})
    data, title, _ = told.run(4)
    assert (data["detail"]["outcome"], data["detail"]["reason"]) == ("skipped", "read-only")
    assert title == "Mirror: skipped - read-only"
    assert told.upstream.asked == []


def test_a_list_that_is_not_believed_is_told_on_its_own(told: Told) -> None:
    tags = [f"1.{number}" for number in range(20)]
    told.upstream.put(APP, Artifacts().image(), *tags)
    told.start()
    told.run(0)
    told.upstream.untag(APP, *tags[5:])
    told.only_run(3)
    stopped, finished = next_of(told.program), next_of(told.program)
    assert (stopped["type"], finished["type"]) == ("mirror.stopped", "mirror.finished")
    assert "homeport mirror release 2" in finished["data"]["detail"]["failures"][0]["why"]
    assert f"{told.upstream.host}/{APP}" in stopped["data"]["reason"]
