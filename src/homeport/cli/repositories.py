"""`homeport repo`: what repositories the data folder has."""

from __future__ import annotations

from homeport.cli.context import Context
from homeport.cli.output import Exit, format_time
from homeport.cli.verbs import Verbs
from homeport.registry import repositories
from homeport.registry.registry import Registry
from homeport.registry.repositories import Repository

_PAGE = 1000


def add(verbs: Verbs) -> None:
    """Add the verb."""
    repo = verbs.family("repo", "Repositories.")
    repo.verb("list", "List the repositories.", list_repositories)


async def list_repositories(context: Context) -> int:
    async with context.registry() as registry:
        found = await _all(registry)
    rows = [{"name": repository.name, "created": format_time(repository.created_at)} for repository in found]
    context.output.table(rows, "name", "created", empty="no repositories; docker push makes one")
    return Exit.DONE


async def _all(registry: Registry) -> list[Repository]:
    found: list[Repository] = []
    while page := await registry.db.read(repositories.page, found[-1].name if found else "", _PAGE):
        found += page
    return found
