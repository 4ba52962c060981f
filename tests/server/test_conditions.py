"""Conditional requests."""

import pytest

from homeport.oci.digest import Digest
from homeport.server.conditions import is_known, range_applies
from tests.server.requests import request

DIGEST = Digest.of(b"a")
OTHER = Digest.of(b"b")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        ("", False),
        (f'"{DIGEST}"', True),
        (f'W/"{DIGEST}"', True),
        (f'"{OTHER}"', False),
        (f'"{OTHER}", "{DIGEST}"', True),
        (f'"{OTHER}",W/"{OTHER}"', False),
        ("*", True),
        (DIGEST, True),  # some clients forget the quotes
        (f'"{DIGEST[:-1]}"', False),
        (f'"{DIGEST.upper()}"', False),
    ],
)
def test_what_the_client_has(header: str | None, expected: bool) -> None:
    headers = [] if header is None else [("If-None-Match", header)]
    assert is_known(request(headers=headers), DIGEST) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, True),
        (f'"{DIGEST}"', True),
        (f'W/"{DIGEST}"', False),  # a weak one never matches for ranges
        (f'"{OTHER}"', False),
        ("Wed, 21 Oct 2026 07:28:00 GMT", False),
        ("", False),
    ],
)
def test_whether_the_range_is_of_these_bytes(header: str | None, expected: bool) -> None:
    headers = [] if header is None else [("If-Range", header)]
    assert range_applies(request(headers=headers), DIGEST) is expected
