"""Byte ranges, by the RFC's letter where clients can tell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.oci.errors import RangeInvalid
from homeport.server import ranges
from homeport.server.ranges import RANGES_MAX, ByteRange


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-99", [(0, 100)]),
        ("bytes=0-0", [(0, 1)]),
        ("bytes=500-1499", [(500, 1500)]),
        ("bytes=500-", [(500, 2048)]),
        ("bytes=-500", [(1548, 2048)]),
        ("bytes=2000-5000", [(2000, 2048)]),
        ("bytes=-5000", [(0, 2048)]),
        ("bytes=0-2047", [(0, 2048)]),
        ("bytes=2047-", [(2047, 2048)]),
        ("bytes=0-999999999999999999", [(0, 2048)]),
        ("BYTES=0-1", [(0, 2)]),
        (" bytes=0-1 ", [(0, 2)]),
        ("bytes=0-1,5-6", [(0, 2), (5, 7)]),
        ("bytes= 0-1 ,, 5-6 , ", [(0, 2), (5, 7)]),
        ("bytes=5-6,0-1", [(5, 7), (0, 2)]),  # in the order asked
        ("bytes=0-1,9000-", [(0, 2)]),  # what is not there is left out
        ("bytes=9-1,0-1", [(0, 2)]),
    ],
)
def test_what_is_asked_for_and_there(header: str, expected: list[tuple[int, int]]) -> None:
    assert ranges.parse(header, 2048) == expected


@pytest.mark.parametrize("header", ["bytes=2048-", "bytes=5000-10000", "bytes=500-0", "bytes=-0", "bytes=9000-,-0"])
def test_nothing_of_it_is_there(header: str) -> None:
    with pytest.raises(RangeInvalid):
        ranges.parse(header, 2048)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_of_nothing_nothing_is_there(header: str) -> None:
    with pytest.raises(RangeInvalid):
        ranges.parse(header, 0)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=,",
        "bytes=a-b",
        "bytes=0-1-2",
        "bytes=0--1",
        "bytes=--1",
        "bytes=+0-1",
        "bytes=0x0-1",
        "bytes=1",
        "bytes=0 - 1",
        "bytes=0-1;5-6",
        "items=0-1",
        "bytes 0-1",
        "bytes=" + "9" * 30 + "-",
        "bytes=٠-١",  # noqa: RUF001 (digits, but not ours)
        "bytes=0-1\0",
        "bytes=0-2047,0-2047",  # more than the whole
        "bytes=0-,1-",
        "bytes=" + ",".join(f"{number}-{number}" for number in range(RANGES_MAX + 1)),
    ],
)
def test_what_is_not_understood_or_too_much_is_answered_with_the_whole(header: str) -> None:
    assert ranges.parse(header, 2048) is None


def test_as_many_ranges_as_are_allowed() -> None:
    header = "bytes=" + ",".join(f"{number}-{number}" for number in range(RANGES_MAX))
    assert len(ranges.parse(header, RANGES_MAX) or []) == RANGES_MAX


def test_how_an_answer_names_its_part() -> None:
    assert ByteRange(500, 1500).content_range(2048) == b"bytes 500-1499/2048"


@given(st.text(alphabet="bytes=0123456789-, ", max_size=40) | st.text(), st.integers(0, 50))
def test_whatever_is_asked_no_more_than_the_whole_is_sent(header: str, size: int) -> None:
    try:
        found = ranges.parse(header, size)
    except RangeInvalid:
        return
    if found is not None:
        assert found
        assert all(0 <= one.start < one.stop <= size for one in found)
        assert sum(one.stop - one.start for one in found) <= size
