"""The audit log: pages of it, and following it."""

from __future__ import annotations

from datetime import datetime

from homeport import administration, events
from homeport.administration import Found, Search
from homeport.events import Position
from homeport.server.api import streams
from homeport.server.api.answers import Answer, Document, Lines
from homeport.server.api.calls import Call
from homeport.server.api.errors import Invalid
from homeport.server.api.models import EventSearch, Nothing
from homeport.server.api.services import ApiServices
from homeport.server.api.streams import News

#: Events on a page, unless the request says how many.
PAGE_EVENTS = 100
#: Events that are told in one go while the log is followed.
_STEP_EVENTS = 500


async def listed(call: Call[EventSearch, Nothing]) -> Answer:
    """GET /events."""
    services, asked = call.services, call.parameters
    if asked.after is not None and asked.since is not None:
        raise Invalid("'after' and 'since' both say where to begin; give one of them")
    search = Search(asked.kind, asked.repository)
    position = await _begin(services, asked)
    if asked.follow:
        if asked.limit is not None:
            raise Invalid("'limit' is for a page; with 'follow' there is no last event")
        if position is None:
            position = await services.database.read(events.end)
        follower = _Follower(services, search, position)
        return Lines(streams.lines(call, follower.look))
    limit = asked.limit or PAGE_EVENTS
    if position is None:
        return _page(await administration.newest(services.database, services.clock, search, limit))
    return _page(await administration.after(services.database, services.clock, search, position, limit))


class _Follower:
    """What is new in the log."""

    def __init__(self, services: ApiServices, search: Search, position: Position) -> None:
        self._services = services
        self._search = search
        self._position = position

    async def look(self) -> News:
        """The next events that are meant."""
        services = self._services
        found = await administration.after(
            services.database, services.clock, self._search, self._position, _STEP_EVENTS
        )
        self._position = found.next
        return News([{"event": events.told(event)} for event in found.events])


async def _begin(services: ApiServices, asked: EventSearch) -> Position | None:
    if asked.after is not None:
        return asked.after
    if asked.since is None:
        return None
    moment = asked.since.timestamp() if isinstance(asked.since, datetime) else services.clock.now() - asked.since
    return await services.database.read(events.since, moment)


def _page(found: Found) -> Document:
    return Document({"events": [events.told(event) for event in found.events], "next": str(found.next)})
