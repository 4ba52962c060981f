"""`homeport quota`: how much repositories may hold, and do."""

from __future__ import annotations

from homeport.cli.context import Context
from homeport.cli.output import Exit
from homeport.cli.verbs import Verbs
from homeport.registry import quotas


def add(verbs: Verbs) -> None:
    """Add the verb."""
    quota = verbs.family("quota", "Quotas: how much the repositories of a pattern may hold.")
    quota.verb(
        "list",
        "List the quotas of the configuration, and how much of each is used.",
        list_quotas,
        more="What is not counted yet is being counted by a job of the kind recount.",
    )


async def list_quotas(context: Context) -> int:
    async with context.registry() as registry:
        known = {usage.pattern: usage for usage in await registry.db.read(quotas.usage)}
        limits = registry.rules.quotas
    rows = []
    for pattern, limit in limits.items():
        usage = known.get(pattern)
        used, counted = (usage.used_bytes, usage.is_counted) if usage else (0, False)
        rows.append({"repositories": pattern, "used_bytes": used, "limit_bytes": limit, "counted": counted})
    columns = ("repositories", "used_bytes", "limit_bytes", "counted")
    context.output.table(rows, *columns, empty="no quotas; 'quotas' in the configuration sets them")
    return Exit.DONE
