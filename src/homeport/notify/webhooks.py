"""One try of a webhook: the request, and what its answer means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from homeport.client.transport import Transport
from homeport.notify.sent import Sent


async def post(
    transport: Transport,
    url: str,
    *,
    method: str,
    headers: Mapping[str, str],
    body: bytes,
    seconds: float,
    secrets: Iterable[str],
    receiver: str,
) -> Sent:
    """Send it. Never raises for what the receiver or the network does."""
    raise NotImplementedError
