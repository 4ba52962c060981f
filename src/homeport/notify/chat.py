"""Telling people by chat or mail: one message, by Apprise, which knows a hundred services, in a child process.

A child, since Apprise cannot be stopped, tells only yes or no, and costs 40 MiB: so it ends at a deadline, what it logs
is read for the reason, and its memory is given back. It connects by itself, so addresses are not pinned; it follows no
redirect.

Holds: the address goes to the child's standard input and nowhere else: not to its arguments, its environment, a log or
an answer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final

from yarl import URL

from homeport.client.programs import Finished, ProgramStuck, run_program
from homeport.client.redaction import plain_text
from homeport.client.settings import ClientSettings, HostSettings
from homeport.clock import Clock
from homeport.notify.messages import Message
from homeport.notify.receivers import Receiver, ReceiverError
from homeport.notify.sent import Sent, is_final

#: What a busy machine may take to start Python and load Apprise, beside the seconds that the receiver may take.
START_SECONDS: Final = 10.0

_CHILD: Final = (sys.executable, "-P", "-m", "homeport.notify.apprise_child")
#: What of our environment the child gets: where programs and libraries are, nothing that may be a secret.
_ENVIRONMENT: Final = ("HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "TZ")


def apprise_is_installed() -> bool:
    """Whether chat and mail can be sent. Cheap: Apprise is looked for, not loaded."""
    return find_spec("apprise") is not None


async def send(
    clock: Clock,
    environ: Mapping[str, str],
    receiver: Receiver,
    message: Message,
    *,
    seconds: float,
    settings: ClientSettings,
) -> Sent:
    """Tell `receiver`, which may take so many seconds to answer; the child, `START_SECONDS` more.

    Raises `ReceiverError` where the configuration is to be changed: Apprise is missing, or cannot use the address.
    """
    if not apprise_is_installed():
        raise ReceiverError(f"{receiver.name} is told by Apprise, which is not here: pip install 'homeport[chat]'")
    try:
        finished = await run_program(
            clock,
            _CHILD,
            environ={name: environ[name] for name in _ENVIRONMENT if name in environ},
            stdin=json.dumps(_request(receiver, message, seconds, settings)).encode(),
            seconds=seconds + START_SECONDS,
        )
    except ProgramStuck:
        return Sent(None, f"it did not answer within {seconds:g} seconds", "retry", receiver=receiver.name)
    return _sent(receiver, finished)


def _request(receiver: Receiver, message: Message, seconds: float, settings: ClientSettings) -> dict[str, Any]:
    host = _host_settings(receiver, settings)
    return {
        "url": receiver.address,
        "title": message.title,
        "body": message.body,
        "level": message.level,
        "seconds": seconds,
        "proxy": None if settings.proxy is None else str(settings.proxy),
        "direct": settings.direct,
        "ca": [str(path.absolute()) for path in (*settings.ca, *([host.ca] if host.ca else []))],
        "insecure": host.insecure,
    }


def _host_settings(receiver: Receiver, settings: ClientSettings) -> HostSettings:
    try:
        return settings.host(URL(receiver.address))
    except ValueError:  # A token stands where other addresses have their host and port.
        return HostSettings()


def _sent(receiver: Receiver, finished: Finished) -> Sent:
    try:
        answer = json.loads(finished.stdout)
        outcome, status, reason = answer["outcome"], answer["status"], plain_text(answer["reason"])
    except (ValueError, KeyError, TypeError):
        return Sent(
            None, f"the program for chat and mail ended with code {finished.code}", "retry", None, receiver.name
        )
    if outcome == "sent":
        return Sent(status, "", "sent", receiver=receiver.name)
    if outcome == "unusable":
        raise ReceiverError(f"Apprise cannot use the address: {reason or 'it knows no such service'}")
    text = reason or "it was not taken, and Apprise does not say why"
    refused = status is not None and is_final(status)
    return Sent(status, text, "refused" if refused else "retry", receiver=receiver.name)
