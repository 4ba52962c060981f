"""What a person is told of an event: what, how much, how long, what failed and why, and where to look.

Pure. Holds: a message is plain text and short enough for every service; text that strangers chose (names, reasons) is
on one line and can neither call anybody (`@everyone`, `<!channel>`), hide a link behind words, nor be read as markup
(but for `_`, which names are full of).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from homeport.client.redaction import plain_text
from homeport.events import SYSTEM, Event
from homeport.kinds import OUTCOMES, SKIPS, Outcome

Level: TypeAlias = Literal["info", "success", "warning", "failure"]

TITLE_CHARACTERS_MAX: Final = 150
#: Discord takes 2,000 characters, ntfy 4,096 bytes, Telegram 4,096 characters with its markup.
BODY_CHARACTERS_MAX: Final = 1_800
BODY_BYTES_MAX: Final = 3_600

_FAILURE_CHARACTERS_MAX = 200
_TITLE_COUNTS_MAX = 4
_RUN_ENDED = ".finished"

_RUN_LEVELS: Final[Mapping[str, Level]] = {
    Outcome.SUCCESS: "success",
    Outcome.PARTIAL: "warning",
    Outcome.ERROR: "failure",
    Outcome.SKIPPED: "warning",
    Outcome.CANCELLED: "warning",
}
#: Every other event is for information.
_LEVELS: Final[Mapping[str, Level]] = {
    "config.refused": "warning",
    "delivery.given_up": "failure",
    "secret.unavailable": "warning",
    "secret.restored": "success",
}

#: What chat services read as markup or as a call, and what looks like it and is neither.
_HARMLESS = str.maketrans(
    {
        "<": "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}",
        ">": "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}",
        "[": "(",
        "]": ")",
        "`": "'",
        "*": "\N{ASTERISK OPERATOR}",
        "|": "\N{BROKEN BAR}",
        "~": "\N{TILDE OPERATOR}",
    }
)
#: What makes a line a headline.
_HEADLINE = re.compile(r"-?#+ ")
_HARMLESS_AT = "\N{FULLWIDTH COMMERCIAL AT}"
#: Not in front of a digest: app@sha256:... is no call.
_CALL = re.compile(r"@(?!sha(?:256|512):[0-9a-f])")


class _Told(NamedTuple):
    """The parts of a message."""

    title: str
    lines: list[str]
    failures: list[str]
    #: How many things failed, listed or not.
    failed: int
    level: Level


@dataclass(frozen=True, slots=True)
class Message:
    """A message as every chat service can show it."""

    title: str
    #: Lines of plain text.
    body: str
    level: Level


def message(event: Event, server_url: str | None) -> Message:
    """What a person is told of `event`. `server_url`: where this registry is, if that is known."""
    is_run = event.kind.endswith(_RUN_ENDED) and event.detail is not None
    told = _of_run(event, event.detail or {}) if is_run else _of_change(event)
    moment = datetime.fromtimestamp(event.happened_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    end = [*_origin(event), moment, *([harmless(server_url)] if server_url else [])]
    body = _body(told.lines, told.failures, told.failed, end)
    return Message(_cut(told.title, TITLE_CHARACTERS_MAX), body, told.level)


def harmless(text: str) -> str:
    """Strangers' text as one line without secrets, calls, links behind words, markup and control characters."""
    line = plain_text(text)
    while headline := _HEADLINE.match(line):
        line = line[headline.end() :]
    return _CALL.sub(_HARMLESS_AT, line.translate(_HARMLESS))


def duration_text(seconds: float) -> str:
    """Such as `38 s`, `4 min`, `1 h 12 min`, `2 d 3 h`: as exact as a person wants it."""
    if seconds < 59.5:
        return f"{seconds:.0f} s" if seconds >= 1 else "less than 1 s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def bytes_text(count: float) -> str:
    """Such as `512 bytes`, `1.3 GiB`."""
    if count < 1024:
        return f"{count:.0f} bytes"
    power = next((power for power in (1, 2, 3) if count / 1024**power < 1023.95), 4)
    return f"{count / 1024**power:,.1f} {'KMGT'[power - 1]}iB"


def _of_run(event: Event, detail: Mapping[str, Any]) -> _Told:
    """Of a run that ended: `detail` is its summary."""
    noun = _words(event.kind.removesuffix(_RUN_ENDED))
    outcome = harmless(str(detail.get("outcome", "")))
    counts = [_count_text(name, number) for name, number in (detail.get("counts") or {}).items() if number]
    failed = int(detail.get("failed") or 0)
    if failed:
        counts.append(f"{failed:,} failed")
    seconds = detail.get("seconds")
    took = [] if seconds is None else [f"in {duration_text(seconds)}"]
    # The last count stays in a long title: it is what failed.
    shown = counts if len(counts) <= _TITLE_COUNTS_MAX else [*counts[: _TITLE_COUNTS_MAX - 1], counts[-1]]
    reason = detail.get("reason")
    facts = reason if reason in SKIPS else ", ".join([*shown, *took])
    lines = [f"{outcome}: {_meaning(outcome, reason)}"]
    if reason and reason not in SKIPS:
        lines.append(harmless(reason))
    if counts:
        lines.append(", ".join(counts))
    failures = [
        _cut(f"- {harmless(failure['what'])}: {harmless(failure['why'])}", _FAILURE_CHARACTERS_MAX)
        for failure in detail.get("failures") or ()
    ]
    title = f"{noun}: {outcome} - {facts}" if facts else f"{noun}: {outcome}"
    return _Told(title, lines, failures, failed, _RUN_LEVELS.get(outcome, "info"))


def _of_change(event: Event) -> _Told:
    """Of anything else that happened."""
    place = f"{event.repository or ''}:{event.tag}" if event.tag else event.repository
    title = _words(event.kind.replace(".", " ")) + (f": {harmless(place)}" if place else "")
    lines = [harmless(text) for text in (event.reason, event.digest) if text]
    if (event.detail or {}).get("sample"):  # of `homeport notify test`
        title, lines = "Sample: notifications arrive here", [f"For the target {harmless(event.reason or '')}."]
    return _Told(title, lines, [], 0, _LEVELS.get(event.kind, "info"))


def _meaning(outcome: str, reason: str | None) -> str:
    """What the outcome means; of a run that was skipped, why."""
    if outcome == Outcome.SKIPPED and reason in SKIPS:
        return f"{reason}. {SKIPS[reason]}"
    return next((text for name, text in OUTCOMES.items() if name == outcome), "")


def _origin(event: Event) -> list[str]:
    """Who it was and from where, and the run's number."""
    who = "" if event.actor == SYSTEM.actor else f"by {harmless(event.actor)}"
    if who and event.address:
        who += f" from {harmless(event.address)}"
    run = harmless(event.run or "").replace("job-", "job ") if (event.run or "").startswith("job-") else ""
    text = " ".join(part for part in (run, who) if part)
    return [text[0].upper() + text[1:]] if text else []


def _count_text(name: str, number: float) -> str:
    if name == "bytes":
        return bytes_text(number)
    return f"{number:,} {harmless(name.replace('_', ' '))}"


def _words(kind: str) -> str:
    return harmless(kind.replace("_", " ")).capitalize()


def _body(lines: Sequence[str], failures: Sequence[str], failed: int, end: Sequence[str]) -> str:
    """All of it that fits; where it does not, failures are counted instead of listed, and the end stays."""
    listed = list(failures)
    while True:
        more = failed - len(listed)
        rest = [f"- and {more:,} more"] if failures and more > 0 else []
        body = "\n".join([*lines, *listed, *rest, *end])
        if not listed or (len(body) <= BODY_CHARACTERS_MAX and len(body.encode()) <= BODY_BYTES_MAX):
            return _cut(body, BODY_CHARACTERS_MAX).encode()[:BODY_BYTES_MAX].decode(errors="ignore")
        listed.pop()


def _cut(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"
