"""Behind a reverse proxy: what it says is believed from trusted addresses only, in challenges and in the log."""

from collections.abc import Iterator

import pytest

from tests.http.watching import eventually, log_lines, reload
from tests.http.wire import Client
from tests.support.processes import Homeport

TRUSTED = {"trusted_proxies": ["127.0.0.1"]}
UNTRUSTED = {"trusted_proxies": ["10.0.0.0/8"]}
FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "registry.example", "X-Forwarded-For": "203.0.113.9"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homeport]:
    server = Homeport(tmp_path_factory.mktemp("proxies"))
    server.start({"log": {"format": "json"}})
    yield server
    server.stop()


def realm(server: Homeport, headers: dict[str, str]) -> str:
    """Where a client that is asked to log in is sent."""
    answer = Client(server.url).request("GET", "/v2/", headers=headers)
    assert answer.status == 401
    return answer["www-authenticate"].partition('realm="')[2].partition('"')[0]


@pytest.mark.parametrize(
    ("settings", "headers", "expected"),
    [
        ({}, {"Host": "registry.lan:5000"}, "http://registry.lan:5000/token"),
        ({}, {"Host": "x", **FORWARDED}, "http://x/token"),
        (UNTRUSTED, {"Host": "x", **FORWARDED}, "http://x/token"),
        (TRUSTED, {"Host": "x", **FORWARDED}, "https://registry.example/token"),
        (TRUSTED, {"Host": "x", "X-Forwarded-Proto": "https"}, "https://x/token"),
        (TRUSTED, {"Host": "x", "X-Forwarded-Proto": "https, http"}, "https://x/token"),
        (TRUSTED, {"Host": "x", "X-Forwarded-Host": "a.example:8443, b"}, "http://a.example:8443/token"),
        (TRUSTED, {"Host": "x"}, "http://x/token"),
        (TRUSTED, {"Host": "x", "X-Forwarded-Proto": "javascript"}, "http://x/token"),
        ({"url": "https://named.example"}, {"Host": "x", **FORWARDED}, "https://named.example/token"),
        ({"url": "https://named.example/", **TRUSTED}, {"Host": "x", **FORWARDED}, "https://named.example/token"),
        # Nothing that a client says gets out of the quotes.
        ({}, {"Host": 'x",service="evil'}, "http://xserviceevil/token"),
        (TRUSTED, {"Host": "x", "X-Forwarded-Host": 'x"\\ ,y="z'}, "http://x/token"),
    ],
)
def test_the_realm(server: Homeport, settings: dict[str, object], headers: dict[str, str], expected: str) -> None:
    reload(server, {"server": settings})
    assert realm(server, headers) == expected


@pytest.mark.parametrize(
    ("settings", "forwarded_for", "expected"),
    [
        ({}, "203.0.113.9", "127.0.0.1"),
        (UNTRUSTED, "203.0.113.9", "127.0.0.1"),
        (TRUSTED, "203.0.113.9", "203.0.113.9"),
        (TRUSTED, "2001:db8::1", "2001:db8::1"),
        (TRUSTED, "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        (TRUSTED, "1.1.1.1\r\nX-Forwarded-For: 203.0.113.9", "203.0.113.9"),
        (TRUSTED, "1.1.1.1, 203.0.113.9, 127.0.0.1", "203.0.113.9"),
        (TRUSTED, "nonsense", "127.0.0.1"),
        (TRUSTED, "203.0.113.9, nonsense", "127.0.0.1"),
        (TRUSTED, "", "127.0.0.1"),
        (TRUSTED, '203.0.113.9" event="forged', "127.0.0.1"),
    ],
)
def test_the_address_in_the_log(
    server: Homeport, settings: dict[str, object], forwarded_for: str, expected: str
) -> None:
    reload(server, {"server": settings})
    answer = Client(server.url).request("GET", "/v2/", headers={"X-Forwarded-For": forwarded_for})
    found: list[dict[str, object]] = []

    def logged() -> bool:
        found[:] = [line for line in log_lines(server) if line.get("id") == answer["x-request-id"]]
        return bool(found)

    assert eventually(logged)
    assert [line["address"] for line in found] == [expected]
