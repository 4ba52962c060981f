"""Whether the secrets in use can be read. Never a value."""

from __future__ import annotations

from dataclasses import asdict

from homeport.server.api.answers import Document
from homeport.server.api.calls import Call
from homeport.server.api.models import Nothing


async def check(call: Call[Nothing, Nothing]) -> Document:
    """GET /secrets: each secret that the configuration refers to, asked for now."""
    in_use = list(call.services.references())
    checked = await call.services.secrets.check([reference for _, reference in in_use])
    names = (name for name, _ in in_use)
    return Document({"secrets": [{"name": name, **asdict(one)} for name, one in zip(names, checked, strict=True)]})
