"""`homeport secret`: whether every secret that the configuration refers to can be read. Never its value."""

from __future__ import annotations

from homeport.cli.administration.opening import opened
from homeport.cli.context import Context
from homeport.cli.output import Exit
from homeport.cli.verbs import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    secret = verbs.family("secret", "Secrets that the configuration refers to.")
    secret.verb(
        "check",
        "Read every secret in use and say where it comes from, never its value.",
        check,
        more="It needs no data folder, so it can be run before the first start. Exit code 1 if one cannot be read.",
        server=True,
    )


async def check(context: Context) -> int:
    async with opened(context) as administration:
        rows = await administration.secrets()
    columns = ("name", "reference", "ok", "source", "problem")
    context.output.table(rows, *columns, empty="the configuration refers to no secret")
    return Exit.DONE if all(row["ok"] for row in rows) else Exit.FAILED
