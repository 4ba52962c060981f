"""`homeport tag`: the tags of a repository, what is behind one, taking some away and bringing them back."""

from __future__ import annotations

import json
from typing import Any

from homeport.cli.context import Context
from homeport.cli.options import moment
from homeport.cli.output import Exit, WrongUsage, format_time
from homeport.cli.verbs import Verbs
from homeport.oci.errors import ManifestUnknown, NameUnknown, RegistryError
from homeport.oci.manifest import parse
from homeport.oci.reference import check_repository, check_tag
from homeport.registry import manifests, restoring, tags
from homeport.registry.manifests import Stored
from homeport.registry.registry import Registry
from homeport.registry.tags import Change, Tag

_PAGE = 1000


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    tag = verbs.family("tag", "Tags: the names of images in a repository.")
    parser = tag.verb("list", "List the tags of a repository.", list_tags)
    parser.add_argument("repository", metavar="REPOSITORY")
    parser = tag.verb("show", "Show what a tag points at.", show_tag)
    parser.add_argument("tag", metavar="REPOSITORY:TAG")
    parser = tag.verb(
        "delete",
        "Delete tags. Their manifests stay, and can be pulled by digest.",
        delete_tags,
        more="Those that can be deleted are, also where others cannot (exit code 3).",
    )
    parser.add_argument("tags", metavar="REPOSITORY:TAG", nargs="+")
    parser = tag.verb(
        "history", "List what a tag pointed at, the newest first, and what of that can be restored.", show_history
    )
    parser.add_argument("tag", metavar="REPOSITORY:TAG")
    parser = tag.verb(
        "restore",
        "Let a tag point at what it did before its last change, or at another time.",
        restore_tag,
        more="Its manifest comes back with all that it needs, if it was deleted since and is still in the trash.",
    )
    parser.add_argument("tag", metavar="REPOSITORY:TAG")
    parser.add_argument(
        "--at",
        metavar="TIME",
        type=moment,
        help="as it was then: a time with its zone such as 2026-11-28T09:30:00Z, or so long ago, such as 2h",
    )


async def list_tags(context: Context) -> int:
    repository = check_repository(context.arguments.repository)
    async with context.registry() as registry:
        found = await _all(registry, repository)
    rows = [{"tag": tag.name, "digest": tag.digest, "pushed": format_time(tag.pushed_at)} for tag in found]
    context.output.table(rows, "tag", "digest", "pushed", empty=f"no tags in {repository}")
    return Exit.DONE


async def _all(registry: Registry, repository: str) -> list[Tag]:
    found: list[Tag] = []
    while True:
        page = await registry.db.read(tags.page, repository, found[-1].name if found else "", _PAGE)
        if page is None:
            raise NameUnknown(repository)
        found += page
        if len(page) < _PAGE:
            return found


async def show_tag(context: Context) -> int:
    repository, tag = _split(context.arguments.tag)
    async with context.registry() as registry:
        stored = await manifests.get(registry, repository, tag)
        history = await registry.db.read(tags.history, repository, tag, 10)
    told = _tell(stored, history)
    lines = [f"{name}: {value}" for name, value in told.items() if isinstance(value, str)]
    lines += [
        f"  {part['role']}  {part['digest']}  {part['bytes']} bytes  {part['platform'] or part['media_type']}"
        for part in told["parts"]
    ]
    lines += [
        "history:",
        *(f"  {change['at']}  {change['digest'] or 'deleted'}  by {change['by']}" for change in told["history"]),
    ]
    context.output.result({"repository": repository, "tag": tag, **told}, "\n".join(lines))
    return Exit.DONE


def _tell(stored: Stored, history: list[Change]) -> dict[str, Any]:
    manifest = parse(stored.data, stored.media_type)
    platforms = _platforms(stored.data) if manifest.is_index else {}
    return {
        "digest": stored.digest,
        "media_type": stored.media_type,
        "artifact_type": manifest.artifact_type,
        "subject": manifest.subject,
        "parts": [
            {
                "role": part.role.value,
                "digest": part.digest,
                "media_type": part.media_type,
                "bytes": part.size,
                "platform": platforms.get(part.digest),
            }
            for part in manifest.references
        ],
        "history": [
            {"digest": change.digest, "by": change.actor, "at": format_time(change.changed_at)} for change in history
        ],
    }


def _platforms(index: bytes) -> dict[str, str]:
    """What each child of an index is for, such as `linux/arm64/v8`; parts that are not text are left out."""
    found: dict[str, str] = {}
    for child in json.loads(index)["manifests"]:
        platform = child.get("platform")
        if isinstance(platform, dict):
            parts = [platform.get(key) for key in ("os", "architecture", "variant")]
            found[child["digest"]] = "/".join(part for part in parts if isinstance(part, str) and part)
    return found


async def delete_tags(context: Context) -> int:
    wanted = [_split(text) for text in context.arguments.tags]
    deleted: list[str] = []
    async with context.registry() as registry:
        for repository, tag in wanted:
            try:
                await tags.delete(registry, context.origin, repository, tag)
                deleted.append(f"{repository}:{tag}")
            except RegistryError as error:
                context.output.note(f"{repository}:{tag}: {error}")
    context.output.result(
        {"deleted": deleted}, "\n".join(f"deleted {name}" for name in deleted) or "nothing was deleted"
    )
    if len(deleted) == len(wanted):
        return Exit.DONE
    return Exit.PARTLY if deleted else Exit.FAILED


async def show_history(context: Context) -> int:
    repository, tag = _split(context.arguments.tag)
    async with context.registry() as registry:
        history = await registry.db.read(tags.history, repository, tag)
        rows = [await _told(registry, repository, change) for change in history]
    if not rows:
        raise ManifestUnknown(f"{repository}:{tag}")
    shown = [{**row, "digest": row["digest"] or "deleted"} for row in rows]
    context.output.table(rows if context.output.as_json else shown, "at", "digest", "by", "why", "restorable", empty="")
    return Exit.DONE


async def _told(registry: Registry, repository: str, change: Change) -> dict[str, Any]:
    digest = change.digest
    return {
        "at": format_time(change.changed_at),
        "digest": digest,
        "by": change.actor,
        "why": change.reason,
        "restorable": digest and await registry.db.read(restoring.has_manifest, repository, digest),
    }


async def restore_tag(context: Context) -> int:
    repository, tag = _split(context.arguments.tag)
    wanted = context.arguments.at
    async with context.registry() as registry:
        at = None if wanted is None else wanted(context.clock.now())
        digest = await restoring.restore_tag(registry, context.origin, repository, tag, at)
    context.output.result(
        {"repository": repository, "tag": tag, "digest": digest}, f"{repository}:{tag} points at {digest}"
    )
    return Exit.DONE


def _split(text: str) -> tuple[str, str]:
    repository, colon, tag = text.rpartition(":")
    if not colon:
        raise WrongUsage(f"'{text}' names no tag; write REPOSITORY:TAG")
    return check_repository(repository), check_tag(tag)
