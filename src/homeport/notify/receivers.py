"""What is behind an address: a webhook in one of its formats, or a chat service that Apprise speaks to.

Pure. Holds: a receiver is told by its resolved address alone, or by the `format` that the configuration says, since an
address from a vault hides it; no error text and no `repr` has a part of the address, which is a secret.
Sources: the services' documents of their incoming webhooks; Apprise's pages of its URLs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

#: What a webhook can be sent, by its name for people.
WEBHOOK_FORMATS: Final[Mapping[str, str]] = {
    "standard": "Standard Webhooks",
    "cloudevents": "CloudEvents",
    "distribution": "distribution's notifications",
    "empty": "empty request",
}

#: Chat services by their `format`, by their name for people.
CHAT_FORMATS: Final[Mapping[str, str]] = {
    "discord": "Discord",
    "slack": "Slack",
    "teams": "Microsoft Teams",
    "ntfy": "ntfy",
    "gotify": "Gotify",
    "apprise": "Apprise",
}

_NTFY_SH = "ntfy.sh"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://\S+")

#: What Apprise's schemes are called, where that is not the scheme itself.
_SCHEMES: Final[Mapping[str, str]] = {
    "mailto": "mail",
    "mailtos": "mail",
    "tgram": "Telegram",
    "matrix": "Matrix",
    "matrixs": "Matrix",
    "mmost": "Mattermost",
    "mmosts": "Mattermost",
    "rocket": "Rocket.Chat",
    "rockets": "Rocket.Chat",
    "discord": "Discord",
    "slack": "Slack",
    "workflow": "Microsoft Teams",
    "workflows": "Microsoft Teams",
    "ntfy": "ntfy",
    "ntfys": "ntfy",
    "gotify": "Gotify",
    "gotifys": "Gotify",
    "signal": "Signal",
    "signals": "Signal",
    "pover": "Pushover",
    "zulip": "Zulip",
}
#: Those that would do something on this machine instead of telling somebody elsewhere.
LOCAL_SCHEMES: Final = frozenset(
    {"blink1", "dbus", "gio", "glib", "gnome", "kde", "macosx", "qt", "syslog", "windows", "file"}
)

_DISCORD_HOST = re.compile(r"(?:(?:ptb|canary)\.)?discord(?:app)?\.com")
_DISCORD_PATH = re.compile(r"/api/(?:v\d+/)?webhooks/(\d+)/([A-Za-z0-9_-]+)(?:/slack|/github)?/?")
_SLACK_HOST = re.compile(r"hooks\.slack(?:-gov)?\.com")
_SLACK_PATH = re.compile(r"/(?:services(?:/[A-Za-z0-9]+){3}|(?:workflows|triggers)/[A-Za-z0-9][A-Za-z0-9/_-]+)/?")
_TEAMS_HOST = re.compile(r"(?:[a-z0-9-]+\.)+(?:logic\.azure\.com|api\.powerplatform\.com)")
_TEAMS_PATH = re.compile(
    r"(?:/powerautomate/automations/direct(?:/cu/\d+)?)?/workflows/[A-Za-z0-9_-]+/triggers/manual/paths/invoke/?"
)
_NTFY_PATH = re.compile(r"/[A-Za-z0-9_-]{1,64}/?")
_GOTIFY_PATH = re.compile(r"((?:/[^/]+)*)/message/?")


class ReceiverError(Exception):
    """Nobody can be told at this address as it is configured. The text is for people and has no part of the address."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who is told, and how."""

    #: For people: `Discord`, `Standard Webhooks`.
    name: str
    #: One of `WEBHOOK_FORMATS`, or None for a chat service.
    format: str | None
    #: For a webhook the address itself, for a chat service what Apprise calls it.
    address: str = field(repr=False)

    @property
    def is_chat(self) -> bool:
        """Whether it is told with a message for people, by `chat.send`."""
        return self.format is None


def recognise(url: str, form: str = "auto") -> Receiver:
    """Who is at the resolved `url`, told in `form` (`Target.format`). Raises `ReceiverError`."""
    url = url.strip()
    found = _SCHEME.fullmatch(url) if url.isprintable() else None
    if found is None:
        raise ReceiverError("what was found is no address: one begins with https:// or with a scheme of Apprise's")
    scheme = found[1].lower()
    if scheme in LOCAL_SCHEMES:
        raise ReceiverError(f"{scheme}:// tells nobody but this machine: give the address of a service")
    if form in WEBHOOK_FORMATS:
        if scheme not in ("http", "https"):
            raise ReceiverError(f"format {form} is for an address that begins with https:// or http://")
        return Receiver(WEBHOOK_FORMATS[form], form, url)
    if scheme not in ("http", "https"):
        return _by_scheme(url, scheme, form)
    parts = _split(url)
    for name, address_of in _BY_ADDRESS.items():
        if form in ("auto", "apprise", name) and (address := address_of(parts, form == name)):
            return Receiver(CHAT_FORMATS[name], None, address)
    if form in _WRONG:
        raise ReceiverError(f"format {form}, but {_WRONG[form]}")
    if form == "apprise":
        return Receiver(CHAT_FORMATS[form], None, url)
    return Receiver(WEBHOOK_FORMATS["standard"], "standard", url)


def _by_scheme(url: str, scheme: str, form: str) -> Receiver:
    """Who is at an address of Apprise's own kind."""
    name = _SCHEMES.get(scheme, scheme)
    if form not in ("auto", "apprise") and name != CHAT_FORMATS[form]:
        raise ReceiverError(f"format {form}, but the address is one of Apprise's for {name}; leave the format out")
    return Receiver(name, None, url)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.hostname and parts.port != 0:
            return parts
    except ValueError:
        pass
    raise ReceiverError("what was found is no address that can be called: such as https://hooks.example.org/path")


def _discord(parts: SplitResult, _asked_for: bool) -> str | None:
    path = _DISCORD_PATH.fullmatch(parts.path)
    if not path or not _DISCORD_HOST.fullmatch(parts.hostname or ""):
        return None
    return _with_query(f"https://discord.com/api/webhooks/{path[1]}/{path[2]}", parts)


def _slack(parts: SplitResult, _asked_for: bool) -> str | None:
    if not _SLACK_HOST.fullmatch(parts.hostname or "") or not _SLACK_PATH.fullmatch(parts.path):
        return None
    return parts.geturl()


def _teams(parts: SplitResult, asked_for: bool) -> str | None:
    known = asked_for or _TEAMS_HOST.fullmatch(parts.hostname or "")
    return parts.geturl() if known and parts.query and _TEAMS_PATH.fullmatch(parts.path) else None


def _ntfy(parts: SplitResult, asked_for: bool) -> str | None:
    if not (asked_for or parts.hostname == _NTFY_SH) or not _NTFY_PATH.fullmatch(parts.path):
        return None
    login, _, host = parts.netloc.rpartition("@")
    query = [parts.query] if parts.query else []
    if login.startswith(":"):  # ntfy takes a token as the password of nobody, Apprise takes it as a user.
        login, query = login.removeprefix(":"), [*query, "auth=token"]
    place = f"{login}@{host}" if login else host
    # The mode says that the host is the server, whatever its name looks like.
    return f"{_apprise_scheme('ntfy', parts)}://{place}{parts.path}?{'&'.join([*query, 'mode=private'])}"


def _gotify(parts: SplitResult, asked_for: bool) -> str | None:
    path, token = _GOTIFY_PATH.fullmatch(parts.path), parse_qs(parts.query).get("token", [""])[0]
    if not path or not token or not (asked_for or set(parse_qs(parts.query)) == {"token"}):
        return None
    return f"{_apprise_scheme('gotify', parts)}://{parts.netloc}{path[1]}/{quote(token, safe='')}"


_BY_ADDRESS: Final = {"discord": _discord, "slack": _slack, "teams": _teams, "ntfy": _ntfy, "gotify": _gotify}

#: What is said where the configuration names a service and the address is none of that service's.
_WRONG: Final[Mapping[str, str]] = {
    "discord": "a Discord webhook looks like https://discord.com/api/webhooks/NUMBER/TOKEN",
    "slack": "a Slack webhook looks like https://hooks.slack.com/services/T.../B.../TOKEN",
    "teams": "a Teams workflow looks like https://HOST/.../workflows/ID/triggers/manual/paths/invoke?...&sig=..."
    " (connectors of webhook.office.com have ended: make a workflow)",
    "ntfy": "an ntfy address looks like https://ntfy.lan/TOPIC",
    "gotify": "a Gotify address looks like https://gotify.lan/message?token=TOKEN",
}


def _apprise_scheme(service: str, parts: SplitResult) -> str:
    return f"{service}s" if parts.scheme.lower() == "https" else service


def _with_query(address: str, parts: SplitResult) -> str:
    return f"{address}?{parts.query}" if parts.query else address
