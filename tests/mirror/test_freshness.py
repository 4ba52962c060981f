"""What of the cache's is believed, and what becomes of an upstream's failures: decided without asking anybody."""

from __future__ import annotations

from typing import Any

import pytest

from homeport.client.errors import (
    BadAnswer,
    ClientError,
    ConnectionFailed,
    ContentMismatch,
    Limit,
    LoginFailed,
    NotFound,
    Refused,
    TlsFailed,
    Untrusted,
)
from homeport.config import mirroring as config
from homeport.mirror import freshness, troubles
from homeport.mirror.addresses import Source
from homeport.mirror.origins import TagOrigin
from homeport.mirror.publicity import Untold
from homeport.mirror.sightings import Sighting
from homeport.mirror.troubles import Kind, Unanswered
from homeport.oci.digest import Digest
from homeport.oci.errors import ManifestUnknown, UpstreamBroken, UpstreamLimited, UpstreamUnavailable
from homeport.upstreams.upstreams import QuotaSpent

HERE, OTHER = Digest.of(b"here"), Digest.of(b"other")
SOURCE = Source("docker.io", "library/alpine")


def origin(**changes: Any) -> TagOrigin:
    known: dict[str, Any] = {"repository": str(SOURCE), "tag": "3", "source": SOURCE, "source_tag": "3"}
    known |= {"digest": HERE, "found_by": "cache", "image": None, "copied_at": 0.0}
    return TagOrigin(**{**known, **changes})


@pytest.mark.parametrize(
    ("found", "may"),
    [
        (None, False),
        (origin(), True),
        (origin(digest=OTHER), False),
        (origin(source=Source("quay.io", "library/alpine")), False),
        (origin(found_by="name"), True),
        (origin(found_by="mirror"), True),
        (origin(found_by="mirror", image="alpine"), False),
        (origin(found_by="mirror", image="alpine", leaving="gone upstream"), False),
        (origin(found_by="mirror", image="alpine", leaving="dropped"), True),
    ],
)
def test_which_tags_follow_upstream(found: TagOrigin | None, may: bool) -> None:
    assert freshness.may_move(HERE, found, SOURCE) is may


def test_how_long_a_tag_is_fresh() -> None:
    rules = [{"tags": ["v?", "edge"], "fresh_for": 1}, {"tags": "v*", "fresh_for": 2}]
    settings = config.Cache.model_validate({"fresh_for": 3, "tags": rules})
    assert [freshness.fresh_seconds(settings, tag) for tag in ("v1", "edge", "v10", "latest")] == [1, 1, 2, 3]
    seen = Sighting(HERE, 0.0, 100.0)
    fresh = {now: freshness.is_fresh(HERE, seen, 10, now) for now in (99.0, 100.0, 109.9, 110.0)}
    assert fresh == {99.0: False, 100.0: True, 109.9: True, 110.0: False}
    assert not freshness.is_fresh(OTHER, seen, 10, 100.0)
    assert not freshness.is_fresh(HERE, None, 10, 100.0)
    assert not freshness.is_fresh(HERE, Sighting(None, 0.0, 100.0), 10, 100.0)


FAILURES: list[tuple[ClientError | TimeoutError, Kind, type[Exception]]] = [
    (LoginFailed("secret", status=401), Kind.ABSENT, ManifestUnknown),
    (Refused("secret", status=403), Kind.ABSENT, ManifestUnknown),
    (NotFound("secret", status=404), Kind.ABSENT, ManifestUnknown),
    (Refused("secret", status=429, limit=Limit.PULLS), Kind.LIMITED, UpstreamLimited),
    (Refused("secret", status=429, limit=Limit.REQUESTS), Kind.LIMITED, UpstreamLimited),
    (QuotaSpent("secret"), Kind.LIMITED, UpstreamLimited),
    (ConnectionFailed("secret", temporary=True), Kind.DOWN, UpstreamUnavailable),
    (TlsFailed("secret", temporary=False), Kind.DOWN, UpstreamUnavailable),
    (TimeoutError(), Kind.DOWN, UpstreamUnavailable),
    (Refused("secret", status=502), Kind.DOWN, UpstreamUnavailable),
    (Untold("secret"), Kind.DOWN, UpstreamUnavailable),
    (Refused("secret", status=400), Kind.BROKEN, UpstreamBroken),
    (BadAnswer("secret"), Kind.BROKEN, UpstreamBroken),
    (ContentMismatch("secret"), Kind.BROKEN, UpstreamBroken),
    (Untrusted("secret"), Kind.BROKEN, UpstreamBroken),
    (ClientError("secret"), Kind.BROKEN, UpstreamBroken),
]


@pytest.mark.parametrize(("failure", "kind", "refusal"), FAILURES)
def test_what_a_failure_means(failure: ClientError | TimeoutError, kind: Kind, refusal: type[Exception]) -> None:
    trouble = troubles.of(failure, "docker.io")
    assert trouble.kind is kind
    unanswered = Unanswered(trouble)
    refused = unanswered.refusal(ManifestUnknown("3"))
    assert type(refused) is refusal
    for text in (str(unanswered), str(refused), unanswered.warning(None), unanswered.warning(1.5)):
        assert "secret" not in text
    assert unanswered.warning(1.5).endswith("; served as it was at 1970-01-01T00:00:01Z")


def test_how_long_to_wait_has_an_end() -> None:
    def waits(seconds: float | None) -> int | None:
        failure = Refused("", status=429, limit=Limit.REQUESTS, retry_after_seconds=seconds)
        return Unanswered(troubles.of(failure, "docker.io")).refusal(ManifestUnknown()).retry_after_seconds

    assert [waits(seconds) for seconds in (None, 0.2, 30.0, 1e9)] == [None, 1, 30, 86_400]
