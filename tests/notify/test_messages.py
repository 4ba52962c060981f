"""What people read: the facts are in it, it is short, and nobody who is told of can speak through it."""

from typing import Any

import pytest

from homeport.events import Event
from homeport.kinds import EVENTS, OUTCOMES, SKIPS, Outcome
from homeport.notify.messages import (
    BODY_BYTES_MAX,
    BODY_CHARACTERS_MAX,
    TITLE_CHARACTERS_MAX,
    bytes_text,
    duration_text,
    harmless,
    message,
)

MOMENT = 1_800_000_000.0
URL = "https://registry.example.org"
DIGEST = "sha256:" + "0123456789abcdef" * 4


def event(kind: str, **values: Any) -> Event:
    columns: dict[str, Any] = {
        "actor": "system",
        "address": "",
        "repository": None,
        "digest": None,
        "tag": None,
        "reason": None,
        "run": None,
    }
    return Event(1, MOMENT, kind, **(columns | values))


def summary(outcome: str, **values: Any) -> dict[str, Any]:
    return {"outcome": outcome, "reason": None, "counts": {}, "failures": [], "failed": 0, "seconds": 250.0} | values


def test_a_run_that_went_well() -> None:
    detail = summary("success", counts={"events": 1200, "jobs": 3, "deliveries": 0}, seconds=2.4)
    told = message(event("housekeeping.finished", detail=detail, run="job-7"), URL)
    assert told.title == "Housekeeping: success - 1,200 events, 3 jobs, in 2 s"
    assert told.body == f"success: Nothing failed.\n1,200 events, 3 jobs\nJob 7\n2027-01-15 08:00 UTC\n{URL}"
    assert told.level == "success"


def test_a_run_of_which_some_failed() -> None:
    failures = [{"what": "docker.io/library/alpine:3.19", "why": "manifest unknown"}]
    counts = {"copied": 12, "bytes": 1_395_864_371}
    detail = summary("partial", counts=counts, failures=failures, failed=31)
    told = message(event("mirror.finished", detail=detail, actor="ada", address="10.0.0.3", run="job-12"), None)
    assert told.title == "Mirror: partial - 12 copied, 1.3 GiB, 31 failed, in 4 min"
    assert told.level == "warning"
    assert told.body.splitlines() == [
        "partial: Some of it failed.",
        "12 copied, 1.3 GiB, 31 failed",
        "- docker.io/library/alpine:3.19: manifest unknown",
        "- and 30 more",
        "Job 12 by ada from 10.0.0.3",
        "2027-01-15 08:00 UTC",
    ]


def test_a_run_that_broke() -> None:
    detail = summary("error", reason="the upstream registry answered 500", seconds=0.1)
    told = message(event("mirror.finished", detail=detail), URL)
    assert told.title == "Mirror: error - in less than 1 s"
    assert told.body.splitlines()[1] == "the upstream registry answered 500"
    assert told.level == "failure"


@pytest.mark.parametrize("reason", SKIPS)
def test_a_run_that_was_skipped(reason: str) -> None:
    told = message(event("housekeeping.finished", detail=summary("skipped", reason=reason, seconds=None)), URL)
    assert told.title == f"Housekeeping: skipped - {reason}"
    assert told.body.splitlines()[0] == f"skipped: {reason}. {SKIPS[reason]}"
    assert told.level == "warning"


@pytest.mark.parametrize("outcome", Outcome)
def test_the_outcome_stands_in_the_message_literally(outcome: Outcome) -> None:
    told = message(event("housekeeping.finished", detail=summary(outcome)), None)
    assert told.title.startswith(f"Housekeeping: {outcome}")
    assert told.body.startswith(f"{outcome}: {OUTCOMES[outcome]}")


def test_many_counts_leave_room_for_what_failed() -> None:
    detail = summary("partial", counts={"copied": 1, "kept": 2, "deleted": 3, "tags_moved": 4, "other": 5}, failed=6)
    told = message(event("mirror.finished", detail=detail), None)
    assert told.title == "Mirror: partial - 1 copied, 2 kept, 3 deleted, 6 failed, in 4 min"
    assert "1 copied, 2 kept, 3 deleted, 4 tags moved, 5 other, 6 failed" in told.body


def test_a_change_of_an_image() -> None:
    change = event(
        "tag.set", repository="team/app", tag="1.0", digest=DIGEST, actor="ada", address="10.0.0.3", run="f3"
    )
    told = message(change, URL)
    assert (told.title, told.level) == ("Tag set: team/app:1.0", "info")
    assert told.body.splitlines() == [DIGEST, "By ada from 10.0.0.3", "2027-01-15 08:00 UTC", URL]


def test_a_sample() -> None:
    told = message(event("notify.tested", reason="ops", actor="ada", detail={"sample": True, "target": "ops"}), None)
    assert told.title == "Sample: notifications arrive here"
    assert told.body.splitlines()[:2] == ["For the target ops.", "By ada"]
    of_another = message(event("notify.tested", reason="ops", detail={"target": "ops", "outcome": "sent"}), None)
    assert of_another.title == "Notify tested"


def test_trouble_looks_like_trouble() -> None:
    levels = {kind: message(event(kind, reason="because"), None).level for kind in EVENTS}
    assert levels["delivery.given_up"] == "failure"
    assert levels["secret.unavailable"] == levels["config.refused"] == "warning"
    assert levels["secret.restored"] == "success"
    assert levels["tag.set"] == "info"


@pytest.mark.parametrize("kind", EVENTS)
def test_every_event_has_a_message(kind: str) -> None:
    told = message(event(kind, reason="because"), URL)
    assert told.title
    assert "_" not in told.title
    assert told.body.endswith(URL)


ATTACKS = [
    "@everyone",
    "@here",
    "@channel",
    "@room",
    "@ada",
    "<@123456>",
    "<@&123456>",
    "<!channel>",
    "<!subteam^S1>",
    "<https://evil.example|your registry>",
    "[your registry](https://evil.example)",
    "![x](https://evil.example/pixel.png)",
    "[x]: https://evil.example",
    "<a href='https://evil.example'>your registry</a>",
    "<script>alert(1)</script>",
    "```\nfence",
    "**bold**",
    "||hidden||",
    "~~struck~~",
    "# headline",
    "-# -# ### small",
    "one\r\nBcc: everybody@example.org\r\n\r\nbody",
    "one\u2028two\u2029three\x85four\x0bfive",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202etxt.exe\u202c \u2066x\u2069 \u200b\u200d\ufeff",
    "\ud800 lone",
    "a\x00b",
    "Authorization: Bearer hunter2hunter2hunter2",
    "https://ada:hunter2hunter2@evil.example/?token=hunter2hunter2",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_strangers_cannot_speak_through_a_message(attack: str) -> None:
    failures = [{"what": attack, "why": attack}]
    detail = summary("partial", reason=attack, counts={attack: 1}, failures=failures, failed=1)
    ended = event("mirror.finished", detail=detail, actor=attack, address=attack, run=f"job-{attack}")
    change = event("tag.set", repository=attack, tag=attack, digest=attack, reason=attack, actor=attack, address=attack)
    for what in (ended, change, event("notify.tested", reason=attack, detail={"sample": True})):
        told = message(what, attack)
        assert "\n" not in told.title
        assert len(told.body.splitlines()) <= 8
        for text in (told.title, told.body):
            assert all(character.isprintable() or character == "\n" for character in text)
            assert not set(text) & set("@<>[]`*|~")
            assert not any(line.lstrip("-").startswith("#") for line in text.splitlines())
            assert "hunter2" not in text
            text.encode()


def test_names_stay_readable() -> None:
    for text in (f"docker.io/library/alpine:3.19@{DIGEST}", "team/my_app-2.x:v1.0", "GET https://quay.io/v2/ said 429"):
        assert harmless(text) == text


def test_messages_are_short() -> None:
    for letter in ("x", "é", "漢", "🚢"):
        text = letter * 3000
        failures = [{"what": text, "why": text}] * 20
        counts = dict.fromkeys((f"{letter * 50}{number}" for number in range(60)), 1)
        detail = summary("error", reason=text, failures=failures, failed=5000, counts=counts)
        ended = event("mirror.finished", detail=detail, actor=text, address=text, run=f"job-{text}")
        change = event("tag.set", repository=text, tag=text, digest=text, reason=text, actor=text, address=text)
        for what in (ended, change):
            told = message(what, text)
            assert len(told.title) <= TITLE_CHARACTERS_MAX
            assert len(told.body) <= BODY_CHARACTERS_MAX
            assert len(told.body.encode()) <= BODY_BYTES_MAX


def test_where_room_is_short_failures_are_counted_and_the_link_stays() -> None:
    failures = [{"what": f"docker.io/library/image-{number}", "why": "x" * 180} for number in range(20)]
    told = message(event("mirror.finished", detail=summary("error", failures=failures, failed=5000)), URL)
    lines = told.body.splitlines()
    listed = [line for line in lines if line.startswith("- docker.io/")]
    assert 5 < len(listed) < 20
    assert lines[-3] == f"- and {5000 - len(listed):,} more"
    assert lines[-1] == URL


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "less than 1 s"),
        (1, "1 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (250, "4 min"),
        (3599, "1 h"),
        (4320, "1 h 12 min"),
        (86_399, "1 d"),
        (97_200, "1 d 3 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1_395_864_371, "1.3 GiB"),
        (5 * 1024**4, "5.0 TiB"),
        (5000 * 1024**4, "5,000.0 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert bytes_text(count) == text
