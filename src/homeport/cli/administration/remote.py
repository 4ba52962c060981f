"""A Homeport far away, over its API.

Holds: the token goes to the server that the operator named and along no redirect; it is in no error. What was begun is
not begun again because an answer was lost, and its outcome is not lost because a connection was.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, NoReturn
from urllib.parse import quote

from yarl import URL

from homeport.administration import Search
from homeport.cli.administration.contract import Administration, Page, Told, Unreachable
from homeport.cli.output import CommandError
from homeport.client.errors import BadAnswer, Cause, ConnectionFailed
from homeport.client.redaction import plain_text, shown_url
from homeport.client.retries import TEMPORARY_STATUSES, Retries, backoff_seconds
from homeport.client.transport import Answer, OpenAnswer, Request, Transport
from homeport.jobs.queue import State

_BASE = "/api/v1/"
#: The largest answer, and the longest line of a stream.
_ANSWER_BYTES_MAX = 64 * 1024**2
_LINE_BYTES_MAX = 1024**2
_READ_BYTES = 64 * 1024
#: How many rows are asked for at once.
_PAGE = 200
#: A stream has a line at least each ten seconds: after this, nobody sends it any more.
_SILENCE_SECONDS = 35.0
#: For how long a server that was followed may be away: longer than a restart takes, with its image to be pulled.
_AWAY_SECONDS_MAX = 900.0
#: The longest pause between two tries to follow on, and how long a stream lasts that was none of them.
_PAUSE_SECONDS_MAX = 5.0
#: What a proxy answers that cannot reach the server behind it.
_GATEWAY_STATUSES = {502: Cause.OTHER, 503: Cause.OTHER, 504: Cause.TIMED_OUT}
#: Where a connection fails so, nothing of the request was sent.
_UNSENT = (f"server-{Cause.NAME_NOT_FOUND}", f"server-{Cause.REFUSED}")


class RemoteAdministration(Administration):
    """What the server at `url` tells and does for whoever has the token."""

    def __init__(self, transport: Transport, url: str, token: str) -> None:
        self._transport = transport
        self._clock = transport.clock
        self._base = URL(url + _BASE)
        self._token = token

    # --- jobs ---------------------------------------------------------------------------------------------------

    async def jobs(self, *, kind: str | None, state: State | None, limit: int) -> list[Told]:
        return await self._listed("jobs", limit, kind=kind, state=state)

    async def job(self, job_id: int) -> Told:
        return await self._get(f"jobs/{job_id}")

    async def log(self, job_id: int) -> list[Told]:
        lines: list[Told] = []
        while True:
            after = lines[-1]["number"] if lines else 0
            page = (await self._get(f"jobs/{job_id}/log", after=after, limit=_PAGE))["lines"]
            lines += page
            if len(page) < _PAGE:
                return lines

    async def follow(self, job_id: int, after: int = 0) -> AsyncGenerator[Told, None]:
        async with aclosing(self._streamed(f"jobs/{job_id}/follow", lambda: {"after": after})) as stream:
            async for told in stream:
                if "line" in told:
                    after = told["line"]["number"]
                yield told
                if "job" in told and told["job"]["state"] == "ended":
                    return

    async def start(
        self,
        kind: str,
        arguments: Mapping[str, str],
        *,
        attend: bool,  # noqa: ARG002 (its workers are the server's affair)
    ) -> Told:
        # Asked before, so that a job that has begun is known by its number if the answer that tells of it is lost.
        newest = await self._listed("jobs", 1, kind=kind)
        before = newest[0]["id"] if newest else 0
        retries = Retries(self._clock)
        perhaps = False
        try:
            while True:
                try:
                    return await self._post("jobs", {"kind": kind, "arguments": dict(arguments)})
                except Unreachable as error:
                    perhaps = perhaps or error.reason not in _UNSENT
                    if not await retries.failed():
                        raise
                for job in reversed(await self._listed("jobs", _PAGE, kind=kind)):
                    if job["id"] > before and job["arguments"] == arguments and job["schedule"] is None:
                        return job
        except Unreachable as error:
            if perhaps:  # So it must not be told as one that did not start.
                raise CommandError(f"{error}; it may have begun: `homeport jobs list` tells, once it is back") from None
            raise

    @property
    def works(self) -> bool:
        return False

    async def has_worker(self) -> bool:
        return True

    async def loaded_otherwise(self, kind: str) -> list[str]:  # noqa: ARG002 (the server has its own file)
        return []

    async def cancel(self, job_id: int) -> Told:
        return await self._post(f"jobs/{job_id}/cancel")

    async def again(self, job_id: int) -> Told:
        return await self._post(f"jobs/{job_id}/retry")

    # --- the audit log ------------------------------------------------------------------------------------------

    async def newest(self, search: Search, limit: int) -> Page:
        return _page(await self._get("events", **_meant(search), limit=limit))

    async def since(self, search: Search, seconds: float, limit: int) -> Page:
        return _page(await self._get("events", **_meant(search), since=seconds, limit=limit))

    async def after(self, search: Search, position: str, limit: int) -> Page:
        return _page(await self._get("events", **_meant(search), after=position, limit=limit))

    async def follow_events(self, search: Search, position: str) -> AsyncGenerator[Told, None]:
        query = {**_meant(search), "follow": "true"}
        async with aclosing(self._streamed("events", lambda: {**query, "after": position})) as stream:
            async for told in stream:
                position = told["event"]["position"]
                yield told["event"]

    # --- notifications and secrets ------------------------------------------------------------------------------

    async def test(self, target: str) -> Told:
        return await self._post(f"targets/{quote(target, safe='')}/test")

    async def deliveries(self, *, target: str | None, state: str | None, limit: int) -> list[Told]:
        return await self._listed("deliveries", limit, target=target, state=state)

    async def replay(self, delivery_id: int) -> Told:
        return await self._post(f"deliveries/{delivery_id}/replay")

    async def secrets(self) -> list[Told]:
        found: list[Told] = (await self._get("secrets"))["secrets"]
        return found

    # --- requests -----------------------------------------------------------------------------------------------

    async def _listed(self, name: str, limit: int, **query: str | None) -> list[Told]:
        """The newest `limit` rows, the newest first, page by page."""
        rows: list[Told] = []
        while len(rows) < limit:
            count = min(_PAGE, limit - len(rows))
            page = (await self._get(name, **query, before=rows[-1]["id"] if rows else None, limit=count))[name]
            rows += page
            if len(page) < count:
                break
        return rows

    async def _get(self, path: str, **query: str | float | None) -> Told:
        """What it answers, tried again while it cannot be reached. Raises `Unreachable`, `CommandError`."""
        request = self._request("GET", path, query)
        retries = Retries(self._clock)
        while True:
            try:
                answer = await self._transport.fetch(request, bytes_max=_ANSWER_BYTES_MAX)
            except ConnectionFailed as error:
                # A name that is not found is tried again as well: in a Swarm it comes back with its service.
                if not await retries.failed():
                    raise _unreachable(error) from None
            else:
                if answer.status not in TEMPORARY_STATUSES or not await retries.failed(answer.headers):
                    return self._content(answer)

    async def _post(self, path: str, content: object = None) -> Told:
        """What it answers, tried once: it may have done what was asked although no answer came."""
        body = b"" if content is None else json.dumps(content).encode()
        request = self._request("POST", path, {}, body)
        try:
            return self._content(await self._transport.fetch(request, bytes_max=_ANSWER_BYTES_MAX))
        except ConnectionFailed as error:
            raise _unreachable(error) from None

    async def _streamed(self, path: str, query: Callable[[], Mapping[str, Any]]) -> AsyncGenerator[Told, None]:
        """The objects of a stream that does not end: where it breaks off, it goes on with what `query` gives then.

        Raises `CommandError` where the server stays away for too long.
        """
        heard, failures = self._clock.monotonic(), 0
        while True:
            began = self._clock.monotonic()
            problem = "the server ends it"
            try:
                async with aclosing(self._stream(self._request("GET", path, query()))) as stream:
                    async for told in stream:
                        heard = self._clock.monotonic()
                        if told is not None:
                            yield told
            except (ConnectionFailed, Unreachable) as error:
                problem = str(error)
            lasted = self._clock.monotonic() - began > _PAUSE_SECONDS_MAX
            failures = 1 if lasted else failures + 1
            if self._clock.monotonic() - heard > _AWAY_SECONDS_MAX:
                raise CommandError(f"lost the server, so how it goes on is not known here: {problem}")
            pause = backoff_seconds(failures, self._clock.random())
            await self._clock.sleep(min(pause, _PAUSE_SECONDS_MAX))

    async def _stream(self, request: Request) -> AsyncGenerator[Told | None, None]:
        """The objects of one answer; None for each part of it that has none, which shows that it still comes."""
        answer = await self._transport.open(request)
        try:
            if answer.status in TEMPORARY_STATUSES:
                raise Unreachable(f"{request}: answers {answer.status}", f"server-{Cause.OTHER}")
            if answer.status != 200:
                self._refuse(await answer.whole())
            async for line in _lines(answer):
                yield self._object(line, request) if line else None
        finally:
            answer.close()

    def _request(self, method: str, path: str, query: Mapping[str, Any], body: bytes | None = None) -> Request:
        url = self._base.join(URL(path, encoded=True)).with_query(
            {key: value for key, value in query.items() if value is not None}
        )
        return Request(
            method,
            url,
            {} if body is None else {"Content-Type": "application/json"},
            body,
            authorization=f"Bearer {self._token}",
            body_is_secret=True,  # Not the body, but that another host answers for this one is not meant either.
            silence_seconds=_SILENCE_SECONDS,
        )

    def _content(self, answer: Answer) -> Told:
        """The object in an answer that says yes. Raises `CommandError` with the sentence of one that says no."""
        if answer.status >= 300:
            self._refuse(answer)
        return self._object(answer.body, answer.request)

    def _refuse(self, answer: Answer) -> NoReturn:
        try:
            message = plain_text(json.loads(answer.body)["error"]["message"], (self._token,))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            text = f"{answer.request}: answers {answer.status}"
            if answer.status in _GATEWAY_STATUSES:
                reason = f"server-{_GATEWAY_STATUSES[answer.status]}"
                raise Unreachable(f"{text}, so the server behind it is not there", reason) from None
            raise CommandError(f"{text}, and not as a Homeport would: is it the right address?") from None
        if answer.status == 401:
            message = f"the token is not taken: {message}"
        raise CommandError(f"{shown_url(self._base.origin())} says: {message}")

    def _object(self, body: bytes, request: Request) -> Told:
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise CommandError(f"{request}: answers, but not as a Homeport would: is it the right address?")
        return found


async def _lines(answer: OpenAnswer) -> AsyncGenerator[bytes, None]:
    """The lines of an answer; one that breaks off in the middle is none."""
    rest = b""
    while chunk := await answer.read(_READ_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LINE_BYTES_MAX:
            raise BadAnswer(f"{answer.request}: sends a line of more than {_LINE_BYTES_MAX} bytes")
        for line in lines:
            yield line


def _unreachable(error: ConnectionFailed) -> Unreachable:
    return Unreachable(str(error), f"server-{error.cause}")


def _meant(search: Search) -> dict[str, str | None]:
    return {"kind": None if search.kind == "*" else search.kind, "repository": search.repository}


def _page(told: Told) -> Page:
    return Page(told["events"], told["next"])
