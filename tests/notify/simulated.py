"""Receivers in a simulation: they outlive the processes that tell them, and take their time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from homeport.client.errors import ConnectionFailed
from homeport.client.settings import ClientSettings
from homeport.client.transport import Request
from homeport.testing.simulation import SimulatedClock


@dataclass
class SimulatedReceivers:
    """What `client.transport.Transport` is to webhooks, with every receiver of the world behind it."""

    clock: SimulatedClock
    #: Of how many requests one goes wrong, by host. 1: all.
    trouble: Mapping[str, int] = field(default_factory=dict)
    settings: ClientSettings = field(default_factory=ClientSettings)
    #: (host, event, message id), in the order of arrival.
    arrived: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)

    async def open(self, request: Request) -> SimulatedAnswer:
        host = request.url.host or ""
        await self.clock.sleep(self.clock.random() * 0.2)
        wrong = self.clock.below(self.trouble.get(host, 1_000_000)) == 0
        if wrong and self.clock.random() < 0.5:
            raise ConnectionFailed(f"{host} is down", temporary=True)
        assert isinstance(request.body, bytes)
        self.arrived.append((host, json.loads(request.body)["data"], request.headers["webhook-id"]))
        await self.clock.sleep(self.clock.random() * 0.2)
        if wrong and self.clock.random() < 0.5:
            raise ConnectionFailed("the answer was lost", temporary=True)
        return SimulatedAnswer(500 if wrong else 200)


@dataclass
class SimulatedAnswer:
    """An answer without a text."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)

    async def read(self, bytes_max: int) -> bytes:
        return b""

    def close(self) -> None:
        """There is nothing to close."""
