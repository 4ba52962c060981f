"""What a webhook is sent: the event in the receiver's format, and the headers that sign it. Pure."""

from __future__ import annotations

from homeport.events import Event
from homeport.notify.deliveries import Subject


def payload(
    format_name: str, event: Event, subject: Subject | None, server_url: str, *, message_id: str, instance: str
) -> tuple[str | None, bytes]:
    """Content type (None: there is no body) and body."""
    raise NotImplementedError


def signature_headers(message_id: str, at: float, body: bytes, secret: str | None) -> dict[str, str]:
    """The headers of Standard Webhooks for a try at the moment `at`. Raises `ValueError`."""
    raise NotImplementedError
