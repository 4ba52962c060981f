"""How a run ended: the outcome follows from what failed, and whatever failed, it fits into an event."""

import json

import pytest

from homeport import events
from homeport.jobs.summary import FAILURES_MAX, Failure, Summary, shortened
from homeport.kinds import Outcome

BROKEN = (Failure("app:1", "not found"),)


@pytest.mark.parametrize(
    ("failures", "done", "outcome"),
    [
        ((), 3, Outcome.SUCCESS),
        ((), 0, Outcome.SUCCESS),
        (BROKEN, 3, Outcome.PARTIAL),
        (BROKEN, 0, Outcome.ERROR),
    ],
)
def test_the_outcome_follows_from_what_failed(failures: tuple[Failure, ...], done: int, outcome: Outcome) -> None:
    summary = Summary.of({"copied": done}, failures, done)
    assert (summary.outcome, summary.counts, summary.failures) == (outcome, {"copied": done}, failures)


def test_it_is_told_and_read_again() -> None:
    summary = Summary(Outcome.PARTIAL, "one is gone", {"copied": 2}, BROKEN, failed=1)
    told = summary.told()
    assert told == {
        "outcome": "partial",
        "reason": "one is gone",
        "counts": {"copied": 2},
        "failures": [{"what": "app:1", "why": "not found"}],
        "failed": 1,
    }
    assert Summary.parse(json.loads(json.dumps(told))) == summary


def test_how_many_failed_is_told_where_not_all_are_listed() -> None:
    summary = Summary.of({}, [Failure(f"app:{number}", "gone") for number in range(1_000)], 1)
    told = summary.told()
    assert (len(told["failures"]), told["failed"]) == (FAILURES_MAX, 1_000)
    assert Summary.parse(told).told() == told


@pytest.mark.parametrize("text", ["x", "\N{PILE OF POO}", "\ud800", '"\\\n'], ids=ascii)
def test_however_much_failed_it_fits_into_an_event(text: str) -> None:
    endless = text * 100_000
    told = Summary(Outcome.ERROR, endless, {}, [Failure(endless, endless)] * 1_000).told()
    assert len(json.dumps(told)) < events.DETAIL_CHARACTERS_MAX - 1_000
    assert told["failures"]
    assert told["failed"] == 1_000
    json.dumps(told, ensure_ascii=False).encode()


def test_what_is_too_long_is_cut() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "ab…"
