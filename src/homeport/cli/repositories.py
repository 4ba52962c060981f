"""`homeport repo`: what repositories the data folder has, and deleting some of them."""

from __future__ import annotations

from typing import Any

from rich.filesize import decimal

from homeport.cli import asking
from homeport.cli.context import Context
from homeport.cli.output import Exit, format_days, format_time
from homeport.cli.verbs import Verbs
from homeport.oci.errors import RegistryError
from homeport.oci.reference import check_repository
from homeport.registry import removal, repositories
from homeport.registry.registry import Registry
from homeport.registry.removal import Contents
from homeport.registry.repositories import Repository

_PAGE = 1000


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    repo = verbs.family("repo", "Repositories.")
    repo.verb("list", "List the repositories.", list_repositories)
    parser = repo.verb(
        "delete",
        "Delete repositories with all that is in them.",
        delete_repositories,
        more="Until it is purged from the trash, `homeport trash restore REPOSITORY` brings it back with its tags.\n"
        "What is pushed meanwhile stays. Those that can be deleted are, also where others cannot (exit code 3).",
    )
    parser.add_argument("repositories", metavar="REPOSITORY", nargs="+")
    parser.add_argument("--dry-run", action="store_true", help="tell what would go, and who runs some of it")
    asking.add_yes(parser)


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


async def delete_repositories(context: Context) -> int:
    names = [check_repository(name) for name in dict.fromkeys(context.arguments.repositories)]
    done: list[dict[str, Any]] = []
    lines: list[str] = []
    async with context.registry() as registry:
        registry.check_writable()
        for name in names:
            try:
                found = await registry.db.read(removal.contents, registry, name)
                if context.arguments.dry_run:
                    told, line = _tell(found), f"would delete {_described(found)}"
                elif asking.agreed(context, _question(registry, found)):
                    told, line = await _delete(context, registry, name)
                else:
                    context.output.note(f"{name}: left as it is")
                    continue
            except RegistryError as error:
                context.output.note(f"{name}: {error}")
            else:
                done.append(told)
                lines.append(line)
    key = "would_delete" if context.arguments.dry_run else "deleted"
    context.output.result({key: done}, "\n".join(lines) or "nothing was deleted")
    if len(done) == len(names):
        return Exit.DONE
    return Exit.PARTLY if done else Exit.FAILED


async def _delete(context: Context, registry: Registry, name: str) -> tuple[dict[str, Any], str]:
    removed = await removal.delete(registry, context.origin, name)
    if removed.stays:
        context.output.note(f"{name}: something was pushed meanwhile and stays")
    told = {
        "repository": name,
        "tags": removed.tags,
        "manifests": removed.manifests,
        "blobs": removed.blobs,
        "stays": removed.stays,
    }
    return told, f"deleted {name}: {removed.tags} tags, {removed.manifests} manifests, {removed.blobs} blobs"


def _tell(found: Contents) -> dict[str, Any]:
    return {
        "repository": found.repository,
        "tags": found.tags,
        "manifests": found.manifests,
        "blobs": found.blobs - found.manifests,
        "bytes": found.bytes,
        "own_bytes": found.own_bytes,
        "in_use": found.in_use,
    }


def _question(registry: Registry, found: Contents) -> str:
    days = format_days(registry.rules.trash_seconds)
    return f"Delete {_described(found)}? It can be brought back for {days}."


def _described(found: Contents) -> str:
    held = f"{found.repository} with {found.tags} tags and {found.manifests} manifests"
    size = f"{decimal(found.bytes)}, {decimal(found.own_bytes)} of it in no other repository"
    used = f"; in use: {', '.join(found.in_use)}" if found.in_use else ""
    return f"{held} ({size}{used})"
