"""Pages: how many, and where the next one is."""

import pytest

from homeport.oci.errors import PageInvalid
from homeport.server import paging
from tests.server.requests import request


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", 100),
        (b"n=", 100),
        (b"n=0", 0),
        (b"n=1", 1),
        (b"n=007", 7),
        (b"n=100", 100),
        (b"n=101", 100),
        (b"n=999999999999999999999999999999999999999999", 100),  # CVE-2023-2253
        (b"last=a", 100),
        (b"n=5&n=6", 5),
    ],
)
def test_how_many(query: bytes, expected: int) -> None:
    assert paging.limit(request(query=query), 100) == expected


@pytest.mark.parametrize(
    "number", [b"-1", b"+1", b"1.0", b"1e3", b"0x1", b"a", b"%20", b"%D9%A1", b"1%00", b"%F0%9D%9F%8F"]
)
def test_what_is_no_number(number: bytes) -> None:
    with pytest.raises(PageInvalid):
        paging.limit(request(query=b"n=" + number), 100)


def test_the_next_page() -> None:
    assert paging.link("/v2/_catalog", 10, "team/app") == [
        (b"link", b'</v2/_catalog?n=10&last=team%2Fapp>; rel="next"')
    ]


def test_what_is_in_an_address_cannot_end_it() -> None:
    ((_, value),) = paging.link("/v2/a/referrers/x", 1, 'sha256:a>"\r\n', artifactType='b/c+d; "e"&f=é')
    assert value.count(b">") == 1
    assert b"\r" not in value
    query = value[value.index(b"?") + 1 : value.index(b">")]
    again = request(query=query)
    assert again.parameter("last") == 'sha256:a>"\r\n'
    assert again.parameter("artifactType") == 'b/c+d; "e"&f=é'
    assert again.parameter("n") == "1"
