"""What is tried again, and when."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from homeport.client.retries import PATIENCE, Patience, Retries, backoff_seconds, is_temporary, retry_after_seconds
from tests.client.clocks import QuickClock

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        (format_datetime(datetime.fromtimestamp(NOW + 30, UTC), usegmt=True), 30.0),
        (format_datetime(datetime.fromtimestamp(NOW - 30, UTC), usegmt=True), 0.0),
        ("99999999999999999999", 999_999_999.0),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        ("٣", None),
        ("Mon, 99 Foo 2026 99:99:99 GMT", None),
        ("", None),
    ],
)
def test_retry_after(value: str, expected: float | None) -> None:
    assert retry_after_seconds({"Retry-After": value}, NOW) == expected
    assert retry_after_seconds({}, NOW) is None


@pytest.mark.parametrize("skew", [-86_400, 0, 86_400])
def test_a_moment_is_by_the_hosts_clock(skew: int) -> None:
    def date(seconds: float) -> str:
        return format_datetime(datetime.fromtimestamp(NOW + skew + seconds, UTC), usegmt=True)

    assert retry_after_seconds({"Retry-After": date(30), "Date": date(0)}, NOW) == 30
    assert retry_after_seconds({"Retry-After": date(-30), "Date": date(0)}, NOW) == 0
    assert retry_after_seconds({"Retry-After": date(30), "Date": "now"}, NOW) == max(0, 30 + skew)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (429, b"Too Many Requests", True),
        (429, b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}', False),
        (503, b"", True),
        (501, b"", False),
        (404, b"", False),
        (200, b"", False),
    ],
)
def test_what_is_temporary(status: int, body: bytes, expected: bool) -> None:
    assert is_temporary(status, {}, body) is expected


async def test_who_is_in_a_hurry_waits_no_longer_than_it_said() -> None:
    clock = QuickClock()
    retries = Retries(clock, Patience(attempts=3, longest_wait_seconds=0.2))
    assert [await retries.failed() for _ in range(3)] == [True, True, False]
    assert clock.slept == [0.1875, 0.2]
    assert not await Retries(clock, Patience(3, 0.2)).failed({"Retry-After": "1"})


def test_backoff_doubles_with_jitter_and_ends_somewhere() -> None:
    assert [backoff_seconds(n, 0.0) for n in (1, 2, 3, 20)] == [0.125, 0.25, 0.5, 15.0]
    assert backoff_seconds(1, 0.999) < 0.25


async def test_gives_up_after_some_failures_and_counts_anew_after_progress() -> None:
    clock = QuickClock()
    retries = Retries(clock)
    assert [await retries.failed() for _ in range(PATIENCE.attempts)] == [True] * (PATIENCE.attempts - 1) + [False]
    retries.progressed()
    assert await retries.failed({"Retry-After": "9"})
    assert clock.slept[-1] == 9.0
    assert not await retries.failed({"Retry-After": str(int(PATIENCE.longest_wait_seconds) + 1)})
