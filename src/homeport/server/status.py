"""How the server is: `/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

from homeport.db.database import DatabaseError, Transaction
from homeport.server.context import Context
from homeport.server.http import Response, json_response
from homeport.storage.blobstore import StorageError


async def health(_context: Context) -> Response:
    """Whether the process lives. Who restarts it when this fails does the right thing."""
    return json_response(200, {"status": "ok"})


async def ready(context: Context) -> Response:
    """Whether it can do its work now: it is not stopping, and database and storage answer."""
    problems = []
    if context.draining:
        problems.append("stopping")
    try:
        await context.registry.db.jot(_answers)
    except DatabaseError:
        problems.append("the database takes no writes")
    try:
        await context.registry.blobs.space()
    except StorageError:
        problems.append("the storage does not answer")
    if problems:
        return json_response(503, {"status": "not ready", "problems": problems})
    return json_response(200, {"status": "ok", "read_only": context.registry.rules.read_only})


async def metrics(context: Context) -> Response:
    """Counters and gauges in Prometheus' text format. They name no repository and no user."""
    gauges = context.gauges()
    space = await context.registry.blobs.space()
    if space is not None:
        gauges |= {"storage_total_bytes": space.total_bytes, "storage_free_bytes": space.free_bytes}
    text = context.counters.exposition(gauges)
    return Response(200, [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")], text.encode())


def _answers(tx: Transaction) -> bool:
    return tx.one("SELECT 1") is not None
