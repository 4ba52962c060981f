"""What a setting can be where it says when something runs, what is told, and to whom."""

from __future__ import annotations

import difflib
import re
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, PlainSerializer, PlainValidator, WithJsonSchema

from homeport.config.references import LOCAL_KINDS, REFERENCE_PATTERN, VAULT_KINDS, SecretReference, parse_reference
from homeport.kinds import EVENTS

#: Where a schedule is asked for and none is wanted.
NEVER = "never"

_SHORTHANDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

#: Addresses that are secrets: whoever knows them can post there.
_SECRET_URL = re.compile(
    r"https?://(hooks\.slack(-gov)?\.com|(\w+\.)?discord(app)?\.com(:\d+)?/api/(v\d+/)?webhooks"
    r"|[\w.-]+\.webhook\.office\.com|[\w.-]+\.logic\.azure\.com|api\.telegram\.org)\b.*",
    re.IGNORECASE,
)
_URL = re.compile(r"https?://[^\s/?#@]+(?P<path>/[^\s?#]*)?(?P<query>\?[^\s#]*)?")
_REFERENCE_STARTS = tuple(f"{kind}:" for kind in (*LOCAL_KINDS, *VAULT_KINDS))
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
#: Headers that are the delivery's own.
_OWN_HEADERS = frozenset({"content-length", "content-type", "host", "transfer-encoding", "connection"})


def _check_cron(value: str) -> str:
    text = _SHORTHANDS.get(value.strip(), " ".join(value.split()))
    if text == NEVER:
        return text
    if len(text.split(" ")) != 5:
        raise ValueError(
            "must be five fields, minute hour day month weekday, such as '0 2 * * *' (every night at two), or 'never'"
        )
    try:
        next(CronSim(text, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise ValueError(f"is no cron line: {str(error).lower()}; such as '0 2 * * *' (every night at two)") from None
    except StopIteration:
        raise ValueError("is a time that never comes") from None
    return text


def _check_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("must be a time zone by its name, such as Europe/Paris, America/New_York or UTC") from None
    return value


def check_event_pattern(value: str) -> str:
    if any(fnmatchcase(kind, value) for kind in EVENTS):
        return value
    close = difflib.get_close_matches(value, EVENTS, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    raise ValueError(f"no event is called that{hint} (docs/reference/events.md lists them; '*' stands for any part)")


def _parse_place(value: Any) -> str | SecretReference:
    if isinstance(value, SecretReference):
        return value
    found = _URL.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        if isinstance(value, str) and value.startswith(("http://", "https://")):
            raise ValueError(
                "is no address that can be called: such as https://hooks.example.org/path, and without a login"
                " (one that holds a secret is written as where it is, such as file:/path or vault:ITEM)"
            )
        if not isinstance(value, str) or not value.startswith(_REFERENCE_STARTS):
            raise ValueError(
                "must be an address, such as https://hooks.example.org/path, or where one is that is a secret:"
                " 'env:NAME', 'file:/path', 'vault:ITEM' or 'bw:ITEM'"
            )
        return parse_reference(value)
    if _SECRET_URL.fullmatch(found.string) or found["query"]:
        raise ValueError(
            "is an address that lets whoever knows it post there, so it is a secret: write where it is,"
            " 'env:NAME', 'file:/path', 'vault:ITEM' or 'bw:ITEM'"
        )
    return found.string


def _check_header(value: str) -> str:
    if not _HEADER.fullmatch(value) or value.lower() in _OWN_HEADERS or value.lower().startswith("webhook-"):
        raise ValueError("must be the name of a header that the notification does not set itself, such as X-Token")
    return value


#: Five fields in one form, or `NEVER`.
Cron = Annotated[str, AfterValidator(_check_cron)]
Zone = Annotated[str, AfterValidator(_check_zone)]
EventPattern = Annotated[str, AfterValidator(check_event_pattern)]
HeaderName = Annotated[str, AfterValidator(_check_header)]
#: An address that may be shown, or where one is that may not.
Place = Annotated[
    str | SecretReference,
    PlainValidator(_parse_place),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": f"{REFERENCE_PATTERN}|^https?://"}),
]
