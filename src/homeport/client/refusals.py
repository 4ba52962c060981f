"""Turning an answer that says no into the error that tells a person what happened."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from homeport.client import ratelimits, wording
from homeport.client.errors import LoginFailed, NotFound, Refused
from homeport.client.redaction import plain_text
from homeport.client.retries import retry_after_seconds
from homeport.client.transport import Answer


def refused(answer: Answer, *, now: float, secrets: Iterable[str] = ()) -> Refused:
    """The error that `answer` is, with the host's own words made fit to be shown."""
    secrets = tuple(secrets)
    code, words = wording.parse(answer.body)
    said = plain_text(f"{code}: {words}" if code and words else code or words or _phrase(answer.status), secrets)
    text = f"{plain_text(str(answer.request), secrets)}: {answer.status} {said}"
    wait = retry_after_seconds(answer.headers, now)
    if wait is not None and answer.status in (429, 503):
        text += f"; the host asks to wait for {wait:.0f} seconds"
    kind = {401: LoginFailed, 404: NotFound}.get(answer.status, Refused)
    return kind(
        text,
        status=answer.status,
        code=plain_text(code, secrets),
        retry_after_seconds=wait,
        limit=ratelimits.passed(answer.status, answer.headers, answer.body),
    )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"
