"""Slowing down those who guess."""

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.auth.throttle import (
    ADDRESS_FAILURES_FREE,
    ADDRESS_WAITING_MAX,
    FORGET_SECONDS,
    REMEMBERED_MAX,
    USER_FAILURES_FREE,
    USER_WAITING_MAX,
    WAIT_SECONDS_MAX,
    WAITING_MAX,
    Throttle,
)
from homeport.oci.errors import TooManyRequests
from tests.auth.tools import ADDRESS, HandClock


def try_once(throttle: Throttle, address: str, user: str, *, right: bool, trusted: bool = False) -> int:
    """0 if the attempt was let through, else the seconds to wait."""
    try:
        with throttle.attempt(address, user, trusted=trusted) as attempt:
            attempt.right = right
    except TooManyRequests as refusal:
        return refusal.retry_after_seconds or -1
    return 0


def test_each_failure_doubles_the_wait_up_to_a_minute(clock: HandClock) -> None:
    throttle = Throttle(clock)
    waits = []
    for number in range(ADDRESS_FAILURES_FREE + 10):
        wait = try_once(throttle, ADDRESS, f"user{number}", right=False)
        if wait:
            waits.append(wait)
            clock.advance(wait - 0.5)
            assert try_once(throttle, ADDRESS, "x", right=False) == 1
            clock.advance(0.5)
            assert try_once(throttle, ADDRESS, f"user{number}", right=False) == 0
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert max(waits) == WAIT_SECONDS_MAX


def test_a_user_is_slowed_before_an_address_is(clock: HandClock) -> None:
    throttle = Throttle(clock)
    for _ in range(USER_FAILURES_FREE):
        assert try_once(throttle, ADDRESS, "ada", right=False) == 0
    assert try_once(throttle, ADDRESS, "ada", right=True) == 1
    assert try_once(throttle, ADDRESS, "eve", right=True) == 0


def test_a_right_password_clears_the_user_but_not_the_address(clock: HandClock) -> None:
    """Else an attacker with an account of his own would begin anew whenever he likes."""
    throttle = Throttle(clock)
    for _ in range(ADDRESS_FAILURES_FREE):
        assert try_once(throttle, ADDRESS, "ada", right=False) == 0
        assert try_once(throttle, ADDRESS, "ada", right=True, trusted=True) == 0
    assert try_once(throttle, ADDRESS, "ada", right=True) == 1
    assert try_once(throttle, ADDRESS, "eve", right=True) == 1


def test_guessing_at_a_user_from_elsewhere_does_not_keep_the_user_out(clock: HandClock) -> None:
    throttle = Throttle(clock)
    for number in range(200):
        try_once(throttle, f"198.51.100.{number}", "ada", right=False)
        try_once(throttle, f"198.51.100.{number}", "ada", right=False)
    assert try_once(throttle, "198.51.100.1", "ada", right=True) > 1
    assert try_once(throttle, ADDRESS, "ada", right=True) == 0


def test_a_login_that_was_right_before_is_not_slowed(clock: HandClock) -> None:
    throttle = Throttle(clock)
    for number in range(ADDRESS_FAILURES_FREE):
        try_once(throttle, ADDRESS, f"user{number}", right=False)
    assert try_once(throttle, ADDRESS, "ada", right=True) > 0
    assert try_once(throttle, ADDRESS, "ada", right=True, trusted=True) == 0


def test_all_is_forgotten_after_a_quiet_time(clock: HandClock) -> None:
    throttle = Throttle(clock)
    for _ in range(50):
        try_once(throttle, ADDRESS, "ada", right=False)
        clock.advance(WAIT_SECONDS_MAX)
    clock.advance(FORGET_SECONDS)
    for _ in range(USER_FAILURES_FREE):
        assert try_once(throttle, ADDRESS, "ada", right=False) == 0


def test_an_attempt_whose_end_is_unknown_is_no_failure(clock: HandClock) -> None:
    throttle = Throttle(clock)
    for _ in range(50):
        with pytest.raises(OSError, match="disk"), throttle.attempt(ADDRESS, "ada", trusted=False):
            raise OSError("disk")
    assert try_once(throttle, ADDRESS, "ada", right=True) == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "", True),
        ("unix:", "192.0.2.7", False),
    ],
)
def test_what_is_one_address(clock: HandClock, one: str, other: str, same: bool) -> None:
    throttle = Throttle(clock)
    for number in range(ADDRESS_FAILURES_FREE):
        try_once(throttle, one, f"user{number}", right=False)
    assert (try_once(throttle, other, "ada", right=True) > 0) is same


def waiting(throttle: Throttle, attempts: list[tuple[str, str]]) -> ExitStack:
    stack = ExitStack()
    for address, user in attempts:
        stack.enter_context(throttle.attempt(address, user, trusted=False))
    return stack


@pytest.mark.parametrize(
    "attempts",
    [
        [(f"10.0.0.{number}", "ada") for number in range(WAITING_MAX)],
        [(ADDRESS, f"user{number}") for number in range(ADDRESS_WAITING_MAX)],
        [(ADDRESS, "eve")] * USER_WAITING_MAX,
    ],
)
def test_no_more_wait_at_once_than_can_be_checked_soon(clock: HandClock, attempts: list[tuple[str, str]]) -> None:
    throttle = Throttle(clock)
    with waiting(throttle, attempts):
        assert try_once(throttle, ADDRESS, "eve", right=True) == 1
        assert try_once(throttle, ADDRESS, "eve", right=True, trusted=True) == 0
    with waiting(throttle, attempts[1:]):
        assert try_once(throttle, ADDRESS, "eve", right=True) == 0
    assert not throttle._waiting


def test_memory_is_bounded(clock: HandClock) -> None:
    throttle = Throttle(clock)
    for number in range(REMEMBERED_MAX + 100):
        try_once(throttle, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", f"user{number}", right=False)
    assert len(throttle._addresses._known) == len(throttle._users._known) == REMEMBERED_MAX
    assert not throttle._waiting


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=40))
def test_nobody_ever_waits_longer_than_a_minute(attempts: list[tuple[bool, float]]) -> None:
    clock = HandClock()
    throttle = Throttle(clock)
    for right, pause in attempts:
        assert try_once(throttle, ADDRESS, "ada", right=right) <= WAIT_SECONDS_MAX
        clock.advance(pause)
    clock.advance(WAIT_SECONDS_MAX)
    assert try_once(throttle, ADDRESS, "ada", right=True) == 0
