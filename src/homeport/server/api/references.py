"""Whether the secrets in use can be read. Never a value."""

from __future__ import annotations

from homeport.server.api.answers import Document
from homeport.server.api.calls import Call
from homeport.server.api.models import Nothing


async def check(call: Call[Nothing, Nothing]) -> Document:
    """GET /secrets: each secret that the configuration refers to, asked for now."""
    in_use = list(call.services.references())
    checked = await call.services.secrets.check([reference for _, reference in in_use])
    return Document(
        {
            "secrets": [
                {
                    "name": name,
                    "reference": found.reference,
                    "ok": found.ok,
                    "source": found.source,
                    "problem": found.problem,
                }
                for (name, _), found in zip(in_use, checked, strict=True)
            ]
        }
    )
