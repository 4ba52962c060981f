"""What the value of an option can be. Each says in its error what it takes instead.

What checks it is imported with the first such value: most command lines have none.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

T = TypeVar("T")


def duration(text: str) -> float:
    """Seconds, from text such as `1h`."""
    from homeport.config.values import parse_duration

    return _checked(parse_duration, text)


def moment(text: str) -> Callable[[float], float]:
    """A time with its zone, or so long ago, such as `2h`: what it is once the time is known that it is now."""
    return _checked(_moment, text)


def _moment(text: str) -> Callable[[float], float]:
    from homeport.config.values import parse_duration

    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None:
        try:
            ago = parse_duration(text)
        except ValueError:
            raise ValueError("must be a time such as 2026-11-28T09:30:00Z, or so long ago, such as 2h") from None
        return lambda now: now - ago
    if at.tzinfo is None:
        raise ValueError("must say in which zone it is, such as 2026-11-28T09:30:00Z or 2026-11-28T10:30:00+01:00")
    seconds = at.timestamp()
    return lambda _: seconds


def server(text: str) -> str:
    """The address of a Homeport."""
    from homeport.config.values import check_url

    return _checked(check_url, text)


def host(text: str) -> str:
    """The host of a registry, as in image names."""
    from homeport.config.values import check_host_name

    return _checked(check_host_name, text)


def event_kind(text: str) -> str:
    """A pattern of event kinds, such as `tag.*`."""
    from homeport.config.plans import check_event_pattern

    return _checked(check_event_pattern, text)


def repositories(text: str) -> str:
    """A pattern of repository names, such as `team/**`."""
    from homeport.config.values import check_pattern

    return _checked(check_pattern, text)


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) > 0):
        raise ArgumentTypeError(f"'{text}' must be a number from 1 on")
    return int(text)


def _checked(check: Callable[[str], T], text: str) -> T:
    try:
        return check(text)
    except ValueError as error:
        raise ArgumentTypeError(f"'{text}' {error}") from None
