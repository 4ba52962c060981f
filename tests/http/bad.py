"""What the tests of bad input share: a server that is watched, and the form of every refusal."""

from hypothesis import HealthCheck, settings

from tests.http.images import digest_of
from tests.http.wire import Answer
from tests.support.processes import Config

IDLE_SECONDS = 1

WATCHED: Config = {
    "access": {"anonymous": ["pull", "push", "delete"]},
    "server": {"body_idle_seconds": IDLE_SECONDS},
    "storage": {"reserve_bytes": 0, "reserve_percent": 0},
    "log": {"format": "json", "level": "info"},
}

#: What the watched server holds: `v1` of this repository, with one layer.
HELD = "team/app"
LAYER = b"0123456789" * 100
DIGEST = digest_of(LAYER)
ABSENT = digest_of(b"absent")

BOUNDED = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def refused(answer: Answer) -> bool:
    """Whether it is a refusal with the spec's error, or one by the HTTP parser."""
    if not 400 <= answer.status < 500:
        return False
    if answer.body == b"" and answer["connection"] == "close":
        return answer.status in {400, 414, 431}
    return bool(answer.error)


def line(method: str, target: str | bytes, *headers: str, body: bytes = b"") -> bytes:
    """A request as bytes, whatever they are."""
    raw = target if isinstance(target, bytes) else target.encode()
    return b"%b %b HTTP/1.1\r\nHost: x\r\n%b\r\n%b" % (
        method.encode(),
        raw,
        b"".join(header.encode("latin-1") + b"\r\n" for header in headers),
        body,
    )
