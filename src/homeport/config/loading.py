"""From a file and the environment to the tree of settings, or to every problem at once, each with its place.

Holds: the environment wins over the file, the file over the defaults. What is refused is named with what to write
instead, and never repeated when it might be a secret.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from homeport.config.document import Document, DocumentError, Location, read
from homeport.config.errors import ConfigError, Problem, SecretUnreadable
from homeport.config.place import PREFIX
from homeport.config.references import read_secret_file
from homeport.config.settings import Settings
from homeport.config.tree import Setting, located_references, settings, siblings, variables, written

#: What Kubernetes and Docker links put into the environment of everything that runs beside a service named "homeport".
_SERVICE_LINK = re.compile(
    r"HOMEPORT_((\w+_)?SERVICE_(HOST|PORT(_\w+)?)|(\w+_)?PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?|NAME|ENV_\w+)"
)

#: A step of a place in the tree, as `tree.written` writes it: a name, or the number of an entry.
_STEP = re.compile(r"([^.\[\]]+)|\[([0-9]{1,9})\]")

#: How much of a digest tells two configurations apart.
_MARK_CHARACTERS = 16

_PLAIN_WORDS = {
    "missing": "is missing",
    "string_too_short": "must not be empty",
    "string_type": "must be text; put it in quotes",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "tuple_type": "must be a list",
    "too_long": "must have at most {max_length} entries",
    "dict_type": "must be a map, with a 'name: value' on each line",
    "mapping_type": "must be a map, with a 'name: value' on each line",
    "model_type": "must be a map, with a 'name: value' on each line",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}


_VAULTLESS = (
    "is in a vault and none is known: say with 'secrets.vaultwarden' which (its url, client_id, client_secret and"
    " password), or write 'env:NAME' or 'file:/path'"
)


class Reading(NamedTuple):
    """The settings, and what their file looked like just before (`place.stamp`)."""

    settings: Settings
    stamp: str


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings of the file at `path` (None: of no file) under `environ`. Raises `ConfigError`."""
    document = read(path) if path else Document("")
    if not isinstance(document.value, dict):
        raise ConfigError([Problem(f"{path}:1", "must be a map of settings, such as 'data: /var/lib/homeport'")])
    sources = _override(document.value, environ)
    place = _Place(path, document, sources)
    try:
        tree = Settings.model_validate(document.value)
    except ValidationError as error:
        details = sorted(error.errors(), key=lambda detail: document.line(_location(detail)) or 0)
        raise ConfigError(
            [place.problem(_location(detail), _words(detail, _location(detail))) for detail in details]
        ) from None
    lost = [location for location, each in located_references(tree) if each.kind == "vault"]
    if lost and tree.secrets.vaultwarden is None:
        lost.sort(key=lambda location: document.line(location) or 0)
        raise ConfigError([place.problem(location, _VAULTLESS) for location in lost])
    return tree


def located(problems: Iterable[Problem], path: Path | None) -> list[Problem]:
    """The same problems; those that name a setting (they showed only when it was used) with its line in the file."""
    try:
        document = read(path) if path else None
    except ConfigError:
        document = None
    found = []
    for problem in problems:
        location = _read_location(problem.where)
        is_setting = bool(location) and location[0] in Settings.model_fields and ":" not in problem.where
        line = document.line(location) if document and is_setting else None
        found.append(Problem(f"{path}:{line}", str(problem)) if line else problem)
    return found


def _read_location(text: str) -> Location:
    """The place of the tree that is written so."""
    return tuple(int(index) if index else name for name, index in _STEP.findall(text))


def changes(old: Settings, new: Settings) -> list[Setting]:
    """The settings whose values differ, in the order of the tree; `Setting.live` are those that a server takes over."""
    return [setting for setting in settings() if setting.variable and _value(old, setting) != _value(new, setting)]


def marks(tree: Settings, parts: Collection[str] = Settings.model_fields.keys()) -> dict[str, str]:
    """Of each of these parts of the tree a text that is another one where the part says something else.

    Nothing can be read in it. What is written out and what is left to a default of the same value are alike.
    """
    written_out = tree.model_dump(mode="json", include=set(parts), exclude_defaults=True)
    texts = {part: json.dumps(written_out.get(part), sort_keys=True) for part in parts}
    return {part: hashlib.sha256(text.encode()).hexdigest()[:_MARK_CHARACTERS] for part, text in texts.items()}


def _value(tree: Settings, setting: Setting) -> Any:
    value: Any = tree
    for name in setting.path:
        value = getattr(value, name, None)
    return value


def _override(tree: dict[str, Any], environ: Mapping[str, str]) -> dict[Location, str]:
    """Put what the environment says into `tree`; which variable each setting came from. Raises `ConfigError`."""
    known = variables()
    sources: dict[Location, str] = {}
    problems: list[Problem] = []
    mentioned = set(_environment_references(tree))
    for variable, text in sorted(environ.items()):
        setting = known.get(variable) or known.get(variable.removesuffix("_FILE"))
        if setting is None:
            if variable.startswith(PREFIX) and not _SERVICE_LINK.fullmatch(variable) and variable not in mentioned:
                problems.append(Problem(variable, "no such setting" + _did_you_mean(variable, list(known))))
        elif not text:
            continue  # `HOMEPORT_SERVER_URL=` in a compose file means "not set"
        elif setting.path in sources:
            problems.append(Problem(variable, f"is set beside {sources[setting.path]}; unset one"))
        else:
            sources[setting.path] = variable
            try:
                _put(tree, setting, text if variable == setting.variable else read_secret_file(Path(text)))
            except (SecretUnreadable, DocumentError, TypeError) as error:
                problems.append(Problem(variable, str(error)))
    if problems:
        raise ConfigError(problems)
    return sources


def _put(tree: dict[str, Any], setting: Setting, text: str) -> None:
    *sections, last = setting.path
    for name in sections:
        below = tree.get(name)
        tree[name] = below = {} if below is None else below
        if not isinstance(below, dict):
            raise TypeError(f"cannot be applied: '{name}' in the file must be a map")
        tree = below
    tree[last] = Document(text).value if setting.is_yaml else text


def _environment_references(value: Any) -> Iterator[str]:
    """The variables that the file's secrets are in; they may be named as they like."""
    if isinstance(value, str) and value.startswith("env:"):
        yield value.removeprefix("env:")
    elif isinstance(value, dict | list):
        for below in value.values() if isinstance(value, dict) else value:
            yield from _environment_references(below)


def _location(error: ErrorDetails) -> Location:
    return tuple(step for step in error["loc"] if step != "[key]")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where settings came from."""

    path: Path | None
    document: Document
    #: The variables that settings came from.
    sources: Mapping[Location, str]

    def problem(self, location: Location, message: str) -> Problem:
        ends = range(len(location), 0, -1)
        where = next((self.sources[location[:end]] for end in ends if location[:end] in self.sources), None)
        if where is None:
            line = self.document.line(location)
            where = f"{self.path}:{line}" if line else str(self.path)
        return Problem(where, f"{written(location)}: {message}")


def _words(error: ErrorDetails, location: Location) -> str:
    context = error.get("ctx", {})
    if error["type"] == "extra_forbidden":
        return "no such setting" + _elsewhere(location)
    if error["type"] == "value_error":
        return str(context["error"])
    plain = {
        name: int(bound) if isinstance(bound, float) and bound.is_integer() else bound
        for name, bound in context.items()
    }
    return _PLAIN_WORDS.get(error["type"], error["msg"]).format_map(plain)


def _elsewhere(location: Location) -> str:
    """What was probably meant: a name like it at the same place, or the same name at another place."""
    wrong = str(location[-1])
    if hint := _did_you_mean(wrong, siblings(location[:-1])):
        return hint
    named = {setting.path[-1]: setting.name for setting in reversed([*settings()])}  # Of several, the first is meant.
    return _did_you_mean(wrong, named)


def _did_you_mean(wrong: str, names: list[str] | dict[str, str]) -> str:
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.7)
    if not close:
        return ""
    return f"; did you mean '{names[close[0]] if isinstance(names, dict) else close[0]}'?"
