"""The tree of settings as a table: what is made from it (environment variables, schema, pages) walks it here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Strict
from pydantic.fields import FieldInfo

from homeport.config.document import Location
from homeport.config.place import PREFIX
from homeport.config.references import SecretReference
from homeport.config.settings import Settings

#: How the keys of a map and the entries of a list are written in a setting's name.
ANY_KEY, ANY_ENTRY = "NAME", "[]"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting with a value of its own; sections have none."""

    path: tuple[str, ...]
    field: FieldInfo

    @property
    def name(self) -> str:
        """As people write it: `server.listen`, `access.rules[].allow`."""
        return ".".join(self.path).replace(f".{ANY_ENTRY}", ANY_ENTRY)

    @property
    def variable(self) -> str | None:
        """Its environment variable: HOMEPORT_ and the name, an underscore for each dot; None inside a list or map."""
        if ANY_KEY in self.path or ANY_ENTRY in self.path:
            return None
        return PREFIX + "_".join(self.path).upper()

    @property
    def help(self) -> str:
        return self.field.description or ""

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it can be, where there are only some."""
        kind = bare(self.field.annotation)
        return get_args(kind) if get_origin(kind) is Literal else ()

    @property
    def live(self) -> bool:
        """Whether a running server takes over a change."""
        extra = self.field.json_schema_extra
        return isinstance(extra, dict) and extra.get("live") is True

    @property
    def is_yaml(self) -> bool:
        """Whether its variable is read as YAML (lists, maps, numbers, true and false) or is the value as it stands."""
        is_strict = any(isinstance(item, Strict) for item in self.field.metadata)
        return is_strict or get_origin(bare(self.field.annotation)) in (tuple, Mapping)


def bare(annotation: Any) -> Any:
    """The type without `Annotated` and without `| None`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return bare(get_args(annotation)[0])
    if origin in (Union, UnionType):
        rest = [argument for argument in get_args(annotation) if argument is not NoneType]
        return bare(rest[0]) if len(rest) == 1 else annotation
    return annotation


def section(annotation: Any) -> type[BaseModel] | None:
    """The section that the type is, if it is one."""
    kind = bare(annotation)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def entry(annotation: Any) -> Any:
    """What the list or map of this type holds, or None for other types."""
    kind = bare(annotation)
    if get_origin(kind) is tuple:
        return get_args(kind)[0]
    return get_args(kind)[1] if get_origin(kind) is Mapping else None


def settings(model: type[BaseModel] = Settings, path: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Every setting in the order of the tree, those inside lists and maps after the list or map itself."""
    for name, field in model.model_fields.items():
        here = (*path, name)
        if below := section(field.annotation):
            yield from settings(below, here)
            continue
        yield Setting(here, field)
        if inside := section(entry(field.annotation)):
            is_list = get_origin(bare(field.annotation)) is tuple
            yield from settings(inside, (*here, ANY_ENTRY if is_list else ANY_KEY))


def variables() -> dict[str, Setting]:
    """The settings that have an environment variable, by it. No two share one, and none ends in `_FILE`."""
    return {setting.variable: setting for setting in settings() if setting.variable}


def siblings(location: tuple[str | int, ...]) -> list[str]:
    """The names that may stand at this place of the tree; none where the place does not exist or takes any name."""
    kind: Any = Settings
    for step in location:
        model = section(kind)
        if model is None:
            kind = entry(kind)
        elif step in model.model_fields:
            kind = model.model_fields[str(step)].annotation
        else:
            return []
    model = section(kind)
    return list(model.model_fields) if model else []


def located_references(tree: Settings) -> Iterator[tuple[Location, SecretReference]]:
    """Every secret in use and its place in the tree, in the order of the tree."""
    found = list(_references_below(tree, ()))
    asks_bw = any(reference.kind == "bw" for _, reference in found)
    for location, reference in found:
        # Its session has a default, and is a secret in use only where something is read with it.
        if asks_bw or location != ("secrets", "bw", "session"):
            yield location, reference


def _references_below(value: Any, location: Location) -> Iterator[tuple[Location, SecretReference]]:
    if isinstance(value, SecretReference):
        yield location, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _references_below(getattr(value, name), (*location, name))
    elif isinstance(value, Mapping):
        for key, below in value.items():
            yield from _references_below(below, (*location, key))
    elif isinstance(value, tuple):
        for index, below in enumerate(value):
            yield from _references_below(below, (*location, index))


def secret_references(tree: Settings) -> list[tuple[str, SecretReference]]:
    """Every secret in use, each with its setting's name."""
    return [(written(location), reference) for location, reference in located_references(tree)]


def written(location: Location) -> str:
    """A place of the tree as people write it: `access.rules[0].allow`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).removeprefix(".")


def schema() -> dict[str, Any]:
    """The JSON Schema that editors check and complete `homeport.yaml` with."""
    described = Settings.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described, "title": "homeport.yaml"}
