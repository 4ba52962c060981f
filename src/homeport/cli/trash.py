"""`homeport trash`: what was deleted, bringing it back, and letting go of it for good."""

from __future__ import annotations

import math
from typing import Any

from rich.filesize import decimal

from homeport.cli import asking
from homeport.cli.context import Context
from homeport.cli.options import duration
from homeport.cli.output import CommandError, Exit, WrongUsage, format_time
from homeport.cli.verbs import Verbs
from homeport.garbage import guard, purge
from homeport.oci.digest import Digest
from homeport.oci.manifest import parse
from homeport.oci.reference import check_repository, check_tag
from homeport.registry import restoring, trash
from homeport.registry.registry import Registry
from homeport.registry.trash import TrashedLink

_PAGE = 1000


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    family = verbs.family("trash", "What was deleted and can be brought back.")
    parser = family.verb("list", "List what was deleted, by whom and why, and until when it can be brought back.", show)
    parser.add_argument("repository", metavar="REPOSITORY", nargs="?")
    parser = family.verb(
        "restore",
        "Bring back a manifest with all that it needs, a blob, or all that was deleted of a repository.",
        restore,
        more="A whole repository comes back with the tags that it had when it was deleted.",
    )
    parser.add_argument("what", metavar="REPOSITORY[@DIGEST]")
    parser.add_argument(
        "--tag", action="append", default=[], metavar="TAG", help="let this tag point at it; repeatable"
    )
    parser = family.verb(
        "purge",
        "Delete for good what is in the trash: all, a repository's part, or one thing with what only it needs.",
        purge_trash,
        more="What is left in the list can still be brought back: nothing goes that another thing in it needs.",
    )
    parser.add_argument("what", metavar="REPOSITORY[@DIGEST]", nargs="?")
    parser.add_argument(
        "--older-than", metavar="DURATION", type=duration, help="only what was deleted so long ago, such as 2d"
    )
    asking.add_yes(parser)


async def show(context: Context) -> int:
    wanted = context.arguments.repository
    repository = None if wanted is None else check_repository(wanted)
    rows: list[dict[str, Any]] = []
    async with context.registry() as registry:
        after = (repository or "", "")
        while page := await registry.db.read(trash.links, repository, after, _PAGE):
            rows += [await _told(registry, link) for link in page]
            after = (page[-1].repository, page[-1].digest)
        lying = await registry.db.read(trash.total_bytes)
    listed = sum({row["digest"]: row["bytes"] for row in rows}.values())
    if context.output.as_json:
        context.output.result({"trash": rows, "bytes": listed, "bytes_in_trash": lying}, "")
        return Exit.DONE
    shown = [{**row, "size": decimal(row["bytes"])} for row in rows]
    columns = ("repository", "digest", "kind", "size", "removed", "by", "why", "until")
    context.output.table(shown, *columns, empty="nothing was deleted that could be brought back")
    if rows:
        context.output.line(f"{len(rows)} things, {decimal(listed)}; {decimal(lying)} lie in the trash by now")
    return Exit.DONE


async def _told(registry: Registry, link: TrashedLink) -> dict[str, Any]:
    return {
        "repository": link.repository,
        "digest": link.digest,
        "kind": await _kind(registry, link),
        "bytes": link.size,
        "removed": format_time(link.removed_at),
        "by": link.actor,
        "why": link.reason,
        "until": format_time(link.removed_at + registry.rules.trash_seconds),
    }


async def _kind(registry: Registry, link: TrashedLink) -> str:
    if link.media_type is None:
        return "blob"
    stored = await registry.db.read(trash.manifest_data, link.repository, link.digest)
    if stored is None:
        return "manifest"
    media_type, data = stored
    return parse(data, media_type).kind


async def restore(context: Context) -> int:
    repository, digest = _split(context.arguments.what)
    tags = [check_tag(tag) for tag in dict.fromkeys(context.arguments.tag)]
    if tags and digest is None:
        raise WrongUsage("--tag needs to know what to point at; write REPOSITORY@DIGEST")
    async with context.registry() as registry:
        if digest is None:
            return await _restore_all(context, registry, repository)
        await restoring.restore(registry, context.origin, repository, digest, tags)
    tagged = f", tagged {', '.join(tags)}" if tags else ""
    told = {"repository": repository, "restored": [digest], "tags": tags}
    context.output.result(told, f"restored {repository}@{digest}{tagged}")
    return Exit.DONE


async def _restore_all(context: Context, registry: Registry, repository: str) -> int:
    restored = await restoring.restore_repository(registry, context.origin, repository)
    for digest, error in restored.failed:
        context.output.note(f"{repository}@{digest}: {error}")
    told = {"repository": repository, "restored": restored.digests, "tags": sorted(restored.tags)}
    text = f"restored {len(restored.digests)} things of {repository}, with {len(restored.tags)} tags"
    context.output.result(told, text)
    if not restored.failed:
        return Exit.DONE
    return Exit.PARTLY if restored.digests else Exit.FAILED


async def purge_trash(context: Context) -> int:
    what, older = context.arguments.what, context.arguments.older_than
    repository, digest = (None, None) if what is None else _split(what)
    before = math.inf if older is None else context.clock.now() - older
    async with context.registry() as registry:
        registry.check_writable()
        stopped = await registry.db.read(guard.why_stopped)
        if stopped is not None:
            raise CommandError(f"{stopped}; if that is right, say so with `homeport cleanup confirm-clock`")
        links = await purge.choose(registry, repository, digest, before)
        if links and not asking.agreed(context, _question(links)):
            context.output.note("nothing was purged")
            return Exit.FAILED
        purged = await purge.purge(registry, context.origin, links)
    for blob, error in purged.failed:
        context.output.note(f"{blob.digest}: {error}; it is tried again within a day")
    told = {"purged": purged.things, "bytes": purged.bytes, "later_bytes": purged.later_bytes}
    later = f"; {decimal(purged.later_bytes)} follow within minutes" if purged.later_bytes else ""
    context.output.result(told, f"purged {purged.things} things, {decimal(purged.bytes)}{later}")
    return Exit.PARTLY if purged.failed else Exit.DONE


def _question(links: list[TrashedLink]) -> str:
    size = sum({link.digest: link.size for link in links}.values())
    of = sorted({link.repository for link in links})
    named = of[0] if len(of) == 1 else f"{len(of)} repositories"
    return f"Purge {len(links)} things of {named}, {decimal(size)}? They cannot be brought back then."


def _split(text: str) -> tuple[str, Digest | None]:
    repository, at, digest = text.partition("@")
    return check_repository(repository), Digest.parse(digest) if at else None
