"""`homeport events`: the audit log. Who did what to which image, from where; what the system did by itself, and why."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing

from homeport.administration import Search
from homeport.cli.administration.contract import Administration, Page, Told
from homeport.cli.administration.opening import opened
from homeport.cli.context import Context
from homeport.cli.options import duration, event_kind, positive, repositories
from homeport.cli.output import Exit
from homeport.cli.verbs import Verbs

#: How many are shown unless somebody says how many, or since when.
_NEWEST = 100
_PAGE = 200
#: How much of a digest is shown: its algorithm, and enough to find it.
_DIGEST_CHARACTERS = len("sha256:") + 12


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.verb(
        "events",
        "Print the audit log: who did what to which image, from where, and why.",
        print_events,
        more="Without --since it prints the newest 100. With --follow and --json it prints one JSON object a line.",
        server=True,
    )
    parser.add_argument("--follow", action="store_true", help="go on with what happens, until Ctrl-C")
    parser.add_argument("--since", metavar="DURATION", type=duration, help="from so long ago on, such as 1h or 7d")
    parser.add_argument("--kind", metavar="PATTERN", type=event_kind, help="only of this kind, such as 'tag.*'")
    parser.add_argument("--repository", metavar="PATTERN", type=repositories, help="only of these, such as 'team/**'")
    parser.add_argument("--limit", metavar="N", type=positive, help="at most so many of what has happened")


async def print_events(context: Context) -> int:
    arguments, output = context.arguments, context.output
    search = Search(arguments.kind or "*", arguments.repository)
    one_document = output.as_json and not arguments.follow
    collected: list[Told] = []
    position = ""
    async with opened(context) as administration:
        async for page in _happened(administration, search, arguments.since, arguments.limit):
            position = page.next
            if one_document:
                collected += page.events
                continue
            for event in page.events:
                output.result(event, _text(event))
        if arguments.follow:
            async with aclosing(administration.follow_events(search, position)) as events:
                async for event in events:
                    output.result(event, _text(event))
    if one_document:
        output.line(json.dumps(collected))
    return Exit.DONE


async def _happened(
    administration: Administration, search: Search, since_seconds: float | None, limit: int | None
) -> AsyncIterator[Page]:
    """What has happened so far, page by page."""
    if since_seconds is None:
        yield await administration.newest(search, limit or _NEWEST)
        return
    count = min(limit or _PAGE, _PAGE)
    page = await administration.since(search, since_seconds, count)
    shown = len(page.events)
    yield page
    while len(page.events) == count and (limit is None or shown < limit):
        count = min(_PAGE, limit - shown) if limit else _PAGE
        page = await administration.after(search, page.next, count)
        shown += len(page.events)
        yield page


def _text(event: Told) -> str:
    """An event on one line: when, what, who from where, to which image, and why."""
    image = event["repository"] or ""
    if event["tag"]:
        image += f":{event['tag']}"
    if event["digest"]:
        image += f"@{event['digest'][:_DIGEST_CHARACTERS]}"
    who = f"{event['actor']} from {event['address']}" if event["address"] else event["actor"]
    why = [(event["detail"] or {}).get("outcome"), event["reason"]]
    parts = [event["time"][:19] + "Z", event["kind"], who, image, ": ".join(text for text in why if text)]
    return "  ".join(part for part in parts if part)
