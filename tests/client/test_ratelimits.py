"""What registries say of their limits, and which of them was passed."""

import json

import pytest
from multidict import CIMultiDict

from homeport.client import ratelimits
from homeport.client.errors import Limit
from homeport.client.ratelimits import Quota


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            {
                "ratelimit-limit": "100;w=21600",
                "ratelimit-remaining": "20;w=21600",
                "docker-ratelimit-source": "192.0.2.7",
            },
            Quota(100, 20, 21_600, "192.0.2.7"),
        ),
        ({"RateLimit-Limit": "10", "RateLimit-Remaining": "0"}, Quota(10, 0)),
        ({"RateLimit-Limit": "10 ; w=60", "RateLimit-Remaining": "9"}, Quota(10, 9, 60)),
        ({"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "59"}, Quota(60, 59)),
        ({"RateLimit-Limit": "?", "RateLimit-Remaining": "1", "X-RateLimit-Limit": "5"}, None),
        ({"ratelimit-limit": "100;w=21600"}, None),
        ({"ratelimit-remaining": "100;w=21600"}, None),
        ({"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "1;w=60"}, None),
        ({"ratelimit-limit": "10, 10;w=1, 50;w=60", "ratelimit-remaining": "9"}, None),
        ({"ratelimit-limit": "-1", "ratelimit-remaining": "-1"}, None),
        ({"ratelimit-limit": "1e9", "ratelimit-remaining": "9"}, None),
        ({"ratelimit-limit": "9" * 30, "ratelimit-remaining": "9"}, None),
        ({"ratelimit-limit": "٣", "ratelimit-remaining": "٣"}, None),
        ({"ratelimit-limit": "", "ratelimit-remaining": ""}, None),
        ({}, None),
    ],
)
def test_quotas(headers: dict[str, str], expected: Quota | None) -> None:
    assert ratelimits.parse(CIMultiDict(headers)) == expected


def test_whom_a_quota_is_for_is_fit_to_be_shown() -> None:
    headers = {"RateLimit-Limit": "1", "RateLimit-Remaining": "1", "Docker-RateLimit-Source": "a\x1b[2Jb" + "x" * 500}
    quota = ratelimits.parse(CIMultiDict(headers))
    assert quota is not None
    assert quota.source is not None
    assert quota.source.startswith("a [2Jbxxx")
    assert len(quota.source) == ratelimits.SOURCE_CHARACTERS_MAX


HUB = "You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"


def said(message: str, code: str = "TOOMANYREQUESTS") -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        (429, {}, said(HUB), Limit.PULLS),
        (429, {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600"}, said("no more"), Limit.PULLS),
        (429, {}, said("Data limit exceeded"), Limit.PULLS),
        (429, {}, b"Too Many Requests", Limit.REQUESTS),
        (429, {}, b"", Limit.REQUESTS),
        (429, {"Retry-After": "3"}, b"<html>slow down, your pull rate limit</html>", Limit.REQUESTS),
        (429, {}, said("retry-after: 816.275us, allowed: 44000/minute"), Limit.REQUESTS),
        (429, {}, said("Rate exceeded"), Limit.REQUESTS),
        (429, {"RateLimit-Limit": "2000;w=60", "RateLimit-Remaining": "0;w=60"}, said("slower"), Limit.REQUESTS),
        (503, {"Retry-After": "3"}, said(HUB), None),
        (200, {}, said(HUB), None),
    ],
)
def test_which_limit_was_passed(status: int, headers: dict[str, str], body: bytes, expected: Limit | None) -> None:
    assert ratelimits.passed(status, CIMultiDict(headers), body) == expected
