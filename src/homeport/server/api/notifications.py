"""Who is told, and what they were told."""

from __future__ import annotations

from homeport.clock import Clock
from homeport.db.database import Transaction
from homeport.events import Origin
from homeport.notify import deliveries
from homeport.notify.deliveries import Delivery
from homeport.notify.errors import DeliveryError, TargetUnknown
from homeport.server.api.answers import Document
from homeport.server.api.calls import Call
from homeport.server.api.errors import Conflict, NotFound
from homeport.server.api.models import DeliveryId, DeliveryList, Nothing, TargetName


async def targets(call: Call[Nothing, Nothing]) -> Document:
    """GET /targets."""
    return Document({"targets": [target.told() for target in call.services.notifier.targets]})


async def test(call: Call[TargetName, Nothing]) -> Document:
    """POST /targets/{name}/test."""
    try:
        sent = await call.services.notifier.test(call.parameters.name, call.origin)
    except TargetUnknown as error:
        raise NotFound(str(error)) from None
    return Document(sent.told())


async def listed(call: Call[DeliveryList, Nothing]) -> Document:
    """GET /deliveries."""
    asked = call.parameters
    found = await call.services.database.read(
        deliveries.listed, target=asked.target, state=asked.state, before=asked.before, limit=asked.limit
    )
    return Document({"deliveries": [delivery.told() for delivery in found]})


async def replay(call: Call[DeliveryId, Nothing]) -> Document:
    """POST /deliveries/{id}/replay."""
    services = call.services
    delivery = await services.database.write(_replay, services.clock, call.parameters.id, call.origin)
    return Document(delivery.told())


def _replay(tx: Transaction, clock: Clock, delivery_id: int, origin: Origin) -> Delivery:
    known = deliveries.get(tx, delivery_id) is not None
    try:
        return deliveries.replay(tx, clock, delivery_id, origin)
    except DeliveryError as error:
        raise (Conflict if known else NotFound)(str(error)) from None
