"""What upstreams do wrong, each as a change of the answer that would have been right.

A fault is a function from `Reply` to `Reply`. `upstream.fail(kind, fault, …)` says when it happens; a test can write
one of its own: `lambda reply: replace(reply, status=418)`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, count, repeat


@dataclass(frozen=True)
class Reply:
    """An answer before it is sent."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    #: What its Content-Length says, if not the truth. More than there is: the connection is cut at the end.
    claimed: int | None = None
    #: The connection is cut when so many bytes of the body went out.
    cut_after: int | None = None
    #: So long is slept between pieces of so many bytes.
    trickle: tuple[float, int] | None = None

    def with_headers(self, **changed: str | None) -> Reply:
        """`_` stands for `-`; None takes a header away."""
        named = {name.replace("_", "-").lower(): value for name, value in changed.items()}
        kept = {name: value for name, value in self.headers.items() if name.lower() not in named}
        return replace(self, headers=kept | {name: value for name, value in named.items() if value is not None})


Fault = Callable[[Reply], Reply]


def _error(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    """Another answer altogether: a 5xx, a 403."""
    return lambda _: Reply(code, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def pull_limit(retry_after: str | None = None) -> Fault:
    """429 as Docker Hub says that the pulls of these hours are used up."""
    message = "You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"
    return lambda _: Reply(429, _waiting(retry_after), _error("TOOMANYREQUESTS", message))


def abuse_limit(retry_after: str | None = None) -> Fault:
    """429 as it is said to who asks too fast."""
    return lambda _: Reply(429, _waiting(retry_after), b"Too Many Requests")


def unavailable(retry_after: str | None = None) -> Fault:
    """503."""
    return lambda _: Reply(503, _waiting(retry_after), b"<html>down for maintenance</html>")


def _waiting(retry_after: str | None) -> dict[str, str]:
    return {"Retry-After": retry_after} if retry_after is not None else {}


def cut(*after: int) -> Fault:
    """The connection is cut after so many bytes of the body; of several numbers one after another, then the last."""
    numbers = chain(after, repeat(after[-1]))
    return lambda reply: replace(reply, cut_after=next(numbers))


def cut_everywhere(step: int) -> Fault:
    """The first connection is cut after `step` bytes, the next after twice as many, and so on."""
    numbers = count(step, step)
    return lambda reply: replace(reply, cut_after=next(numbers))


def wrong_bytes(position: int = -1) -> Fault:
    """One byte is another, the last unless it is said."""

    def change(reply: Reply) -> Reply:
        body = bytearray(reply.body)
        body[position] ^= 1
        return replace(reply, body=bytes(body))

    return change


def shorter(by: int = 1) -> Fault:
    """The end is missing, and Content-Length knows."""
    return lambda reply: replace(reply, body=reply.body[:-by])


def longer(by: int = 1) -> Fault:
    """There is more than there should be, and Content-Length knows."""
    return lambda reply: replace(reply, body=reply.body + b"x" * by)


def claims(length: int) -> Fault:
    """Content-Length lies."""
    return lambda reply: replace(reply, claimed=length)


def html(code: int = 200) -> Fault:
    """The page of a captive portal or a proxy."""
    page = b"<!DOCTYPE html><html><body>Please accept our terms.</body></html>"
    return lambda _: Reply(code, {"Content-Type": "text/html"}, page)


def half() -> Fault:
    """The first half of the body: JSON that ends in the middle."""
    return lambda reply: replace(reply, body=reply.body[: len(reply.body) // 2])


def items(change: Callable[[list[str]], object], key: str = "tags") -> Fault:
    """Another list than the true one: `items(lambda tags: tags[:3])`, `items(lambda tags: None)`."""

    def changed(reply: Reply) -> Reply:
        document = json.loads(reply.body)
        return replace(reply, body=json.dumps(document | {key: change(document[key])}).encode())

    return changed


def endless_pages() -> Fault:
    """There is always one more page, each at an address of its own."""
    numbers = count(1)
    return lambda reply: reply.with_headers(Link=f'<?endless={next(numbers)}>; rel="next"')


def same_page() -> Fault:
    """The next page is this one."""
    return lambda reply: reply.with_headers(Link='<?n=1000>; rel="next"')


def headers(**changed: str | None) -> Fault:
    """Other headers: `headers(Docker_Content_Digest=None)`."""
    return lambda reply: reply.with_headers(**changed)


def trickle(seconds: float = 0.05, pieces: int = 1) -> Fault:
    """The body comes in small pieces, with a pause between them."""
    return lambda reply: replace(reply, trickle=(seconds, pieces))
