"""Whose pulls count, by the User-Agent."""

import time

import pytest

from homeport.server import pullers
from homeport.server.pullers import AGENT_CHARACTERS_MAX, counts
from tests.server.requests import request

GLOBS = ("homeport*", "*Trivy*")


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ("docker/28.0 go/1.24", True),
        ("", True),
        ("my-homeport", True),
        ("homeport", False),
        ("Homeport/1.0", False),
        ("aqua trivy/0.60", False),
        ("\u00e4\u00ff", True),
    ],
)
def test_who(agent: str, expected: bool) -> None:
    assert counts(request(headers=[("User-Agent", agent)]), GLOBS) is expected


def test_who_says_nothing_counts_and_so_does_everybody_where_none_is_named() -> None:
    assert counts(request(), ("*",))
    assert counts(request(headers=[("User-Agent", "homeport")]), ())


def test_hostile_headers_cost_little_time_and_memory() -> None:
    hostile = tuple("*a" * 100 + str(number) for number in range(10))
    before = time.perf_counter()
    for number in range(3_000):
        assert counts(request(headers=[("User-Agent", f"{number}" + "a" * 60_000)]), hostile)
    assert time.perf_counter() - before < 3
    assert pullers._is_meant.cache_info().currsize <= 1024
    assert counts(request(headers=[("User-Agent", " " * AGENT_CHARACTERS_MAX + "trivy")]), GLOBS)
