"""What the value of an option can be. Each says in its error what it takes instead."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import TypeVar

from homeport.config.plans import check_event_pattern
from homeport.config.values import check_pattern, check_url, parse_duration

T = TypeVar("T")


def duration(text: str) -> float:
    """Seconds, from text such as `1h`."""
    return _checked(parse_duration, text)


def server(text: str) -> str:
    """The address of a Homeport."""
    return _checked(check_url, text)


def event_kind(text: str) -> str:
    """A pattern of event kinds, such as `tag.*`."""
    return _checked(check_event_pattern, text)


def repositories(text: str) -> str:
    """A pattern of repository names, such as `team/**`."""
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
