"""Behind reverse proxies: whom to believe."""

from ipaddress import ip_network

import pytest

from homeport.server.context import Options
from homeport.server.proxies import base_url, client_address
from tests.server.requests import request

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
PROXY = "10.0.0.1"
CLIENT = "203.0.113.7"


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        (CLIENT, None, CLIENT),
        (CLIENT, "198.51.100.1", CLIENT),  # whoever is no proxy may say what it likes
        (PROXY, None, PROXY),
        (PROXY, CLIENT, CLIENT),
        (PROXY, f" {CLIENT} ", CLIENT),
        (PROXY, f"{CLIENT}, 10.0.0.2", CLIENT),
        (PROXY, f"198.51.100.1, {CLIENT}", CLIENT),  # the first was made up by the client
        (PROXY, f"198.51.100.1,{CLIENT},10.0.0.3,10.0.0.2", CLIENT),
        (PROXY, "10.0.0.2", "10.0.0.2"),
        (PROXY, "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (PROXY, "", PROXY),
        (PROXY, "unknown", PROXY),
        (PROXY, f"unknown, {CLIENT}", CLIENT),
        (PROXY, f"{CLIENT}, unknown", PROXY),
        (PROXY, f"{CLIENT}, _hidden, 10.0.0.2", "10.0.0.2"),
        (PROXY, "2001:db8::7", "2001:db8::7"),
        (PROXY, "[2001:db8::7]", "2001:db8::7"),
        (PROXY, "[2001:db8::7]:443", "2001:db8::7"),
        ("fd00::1", CLIENT, CLIENT),
        ("fe80::1", CLIENT, "fe80::1"),
        ("::ffff:10.0.0.1", CLIENT, CLIENT),  # how a socket for both kinds sees an IPv4 proxy
        ("::ffff:203.0.113.9", CLIENT, "::ffff:203.0.113.9"),
        ("", CLIENT, ""),
        (PROXY, "a" * 10_000, PROXY),
        (PROXY, "," * 10_000, PROXY),
    ],
)
def test_the_client_is_the_last_that_no_trusted_proxy_vouches_for(
    peer: str, forwarded_for: str | None, expected: str
) -> None:
    assert client_address(peer, forwarded_for, TRUSTED) == expected


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert client_address(PROXY, CLIENT, ()) == PROXY


def test_every_line_of_the_header_counts() -> None:
    """A proxy may add a line of its own behind the client's."""
    asked = request(headers=[("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", CLIENT)], peer=PROXY)
    assert client_address(PROXY, asked.joined(b"x-forwarded-for"), TRUSTED) == CLIENT


FORWARDED = [("Host", "10.0.0.9:5000"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "registry.example")]


@pytest.mark.parametrize(
    ("headers", "peer", "scheme", "expected"),
    [
        ([("Host", "localhost:5000")], CLIENT, "http", "http://localhost:5000"),
        ([("Host", "localhost:5000")], CLIENT, "https", "https://localhost:5000"),
        ([(":authority", "registry.example")], CLIENT, "https", "https://registry.example"),
        ([], CLIENT, "http", "http://localhost"),
        (FORWARDED, PROXY, "http", "https://registry.example"),
        (FORWARDED, CLIENT, "http", "http://10.0.0.9:5000"),
        ([*FORWARDED[:2]], PROXY, "http", "https://10.0.0.9:5000"),
        ([("Host", "a"), ("X-Forwarded-Proto", "https, http")], PROXY, "http", "https://a"),
        ([("Host", "a"), ("X-Forwarded-Proto", "javascript")], PROXY, "http", "http://a"),
        ([("Host", "[::1]:5000")], CLIENT, "http", "http://[::1]:5000"),
        ([("Host", 'a",scope="x\r\nb: c')], CLIENT, "http", "http://ascopexb:c"),
    ],
)
def test_the_address_that_the_client_knows(
    headers: list[tuple[str, str]], peer: str, scheme: str, expected: str
) -> None:
    assert base_url(request(headers=headers, peer=peer, scheme=scheme), Options(trusted_proxies=TRUSTED)) == expected


def test_a_set_address_wins() -> None:
    asked = request(headers=FORWARDED, peer=PROXY)
    options = Options(url="https://registry.example/", trusted_proxies=TRUSTED)
    assert base_url(asked, options) == "https://registry.example"


def test_without_trusted_proxies_no_header_counts() -> None:
    assert base_url(request(headers=FORWARDED, peer=PROXY), Options()) == "http://10.0.0.9:5000"
