"""What is in a vault: which item a reference means, and which part of it is the secret.

Pure. Holds: a name that two items have is an error that lists their ids, never a guess; items in the trash are not
there; no error says a part of an item but its name and id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from homeport.client.redaction import plain_text
from homeport.config.references import SecretReference
from homeport.secretstore.errors import SecretUnavailable

IDS_SHOWN_MAX = 10

#: For each reference its secret, or why there is none.
Found = dict[SecretReference, str | SecretUnavailable]


@dataclass(frozen=True, slots=True)
class Item:
    """One item. `content` is its JSON, whose texts `plain` decrypts (it may raise `SecretUnavailable`)."""

    id: str
    name: str
    content: Mapping[str, Any] = field(repr=False)
    plain: Callable[[str], str] = field(repr=False)


def member(content: Any, name: str) -> Any:
    """`content[name]`, None if there is none. Servers wrote names with a capital at first, and in places still do."""
    if not isinstance(content, Mapping):
        return None
    return content.get(name, content.get(name[0].upper() + name[1:]))


def members(content: Any, name: str) -> list[Any]:
    """The same where a list is expected; empty if it is none."""
    found = member(content, name)
    return found if isinstance(found, list) else []


def text(content: Any, name: str) -> str:
    """The same where text is expected; empty if it is none."""
    found = member(content, name)
    return found if isinstance(found, str) else ""


def select(items: Sequence[Item], references: Iterable[SecretReference]) -> Found:
    """For each reference its secret among these items, or why there is none."""
    found: Found = {}
    for reference in references:
        try:
            found[reference] = _secret_of(_find(items, reference), reference)
        except SecretUnavailable as error:
            found[reference] = error
    return found


def _find(items: Iterable[Item], reference: SecretReference) -> Item:
    """The item with that id, else the one with exactly that name."""
    named = []
    for item in items:
        if item.id.lower() == reference.name.lower():
            return item
        if item.name == reference.name:
            named.append(item)
    if not named:
        raise SecretUnavailable(f"the vault has no item '{reference.name}' that this account can read")
    if len(named) > 1:
        ids = sorted(item.id for item in named)
        more = f" and {len(ids) - IDS_SHOWN_MAX} more" if len(ids) > IDS_SHOWN_MAX else ""
        listed = plain_text(", ".join(ids[:IDS_SHOWN_MAX]))
        raise SecretUnavailable(
            f"the vault has {len(ids)} items '{reference.name}'; write the id of the one that is meant after"
            f" '{reference.kind}:': {listed}{more}"
        )
    return named[0]


def _secret_of(item: Item, reference: SecretReference) -> str:
    """The part of the item that the reference means."""
    if reference.field is not None:
        named = [each for each in members(item.content, "fields") if _field_name(item, each) == reference.field]
        if len(named) > 1:
            raise SecretUnavailable(f"the item '{reference.name}' has {len(named)} fields '{reference.field}'")
        found, what = (text(named[0], "value") if named else ""), f"field '{reference.field}'"
    elif reference.part == "notes":
        found, what = text(item.content, "notes"), "notes"
    elif reference.part == "uri":
        addresses = members(member(item.content, "login"), "uris")
        found, what = (text(addresses[0], "uri") if addresses else ""), "address (URI)"
    else:
        what = reference.part or "password"
        found = text(member(item.content, "login"), what)
    secret = item.plain(found) if found else ""
    if not secret:
        raise SecretUnavailable(f"the item '{reference.name}' has no {what}")
    return secret


def _field_name(item: Item, content: Any) -> str:
    name = text(content, "name")
    return item.plain(name) if name else ""
