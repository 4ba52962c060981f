"""YAML with its line numbers, and with a limit on everything.

Holds: a key that stands twice is an error, not a silent choice; aliases cannot blow a small file up; nothing is ever
constructed but text, numbers, true, false, null, lists and maps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import yaml

from homeport.config.errors import ConfigError, Problem

BYTES_MAX = 1024 * 1024
NODES_MAX = 100_000
DEPTH_MAX = 24

_NULL = "tag:yaml.org,2002:null"
_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null")}
_SURPRISING = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")

Location: TypeAlias = tuple[str | int, ...]


class DocumentError(Exception):
    """The text is not the YAML that we take. `line` counts from 1."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


class Document:
    """The values of a file, and the line on which each stands."""

    def __init__(self, text: str, *, literal: bool = False) -> None:
        """`literal`: a value is the text that stands there, so that 3.10 stays 3.10. Raises `DocumentError`."""
        self._literal = literal
        self._lines: dict[Location, int] = {}
        self._nodes = 0
        try:
            loader = _Loader(text)
            root = loader.get_single_node()
            self.value: Any = {} if root is None else self._build(loader, root, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = error.problem or "is not valid YAML"
            if "'\\t'" in problem:
                problem = "begins with a tab; YAML is indented with spaces"
            raise DocumentError(problem, mark.line + 1 if mark else None) from error
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise DocumentError("has a character that YAML does not allow", line) from error

    def line(self, location: Location) -> int | None:
        """The line of this place, or of the nearest thing around it that is in the file."""
        while location not in self._lines and location:
            location = location[:-1]
        return self._lines.get(location)

    def _build(self, loader: _Loader, node: yaml.Node, location: Location) -> Any:
        line = node.start_mark.line + 1
        self._lines.setdefault(location, line)
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise DocumentError(f"has more than {NODES_MAX} values, counting what aliases repeat", line)
        if len(location) > DEPTH_MAX:
            raise DocumentError(f"is nested more than {DEPTH_MAX} deep", line)
        if node.tag not in _TAGS:
            raise DocumentError(f"'{node.tag}' is not something a setting can be", line)
        if isinstance(node, yaml.MappingNode):
            return self._build_map(loader, node, location)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(loader, entry, (*location, index)) for index, entry in enumerate(node.value)]
        if self._literal:
            return None if node.tag == _NULL else node.value
        return loader.construct_scalar_value(node)

    def _build_map(self, loader: _Loader, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise DocumentError("a key must be text", line)
            key: str = key_node.value
            if key in result:
                first = self._lines[(*location, key)]
                raise DocumentError(f"'{key}' stands twice, here and on line {first}", line)
            self._lines[(*location, key)] = line
            result[key] = self._build(loader, value_node, (*location, key))
        return result


class _Loader(yaml.SafeLoader):
    """The safe loader without what surprises: dates, `<<` and `=` are text here."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the base class's own table, which is per class)
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _SURPRISING]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """As the base class does, but never deeper than a sound file needs: its recursion would end in a crash."""
        self._depth += 1
        if self._depth > DEPTH_MAX + 1:
            line = parent.start_mark.line + 1 if parent else None
            raise DocumentError(f"is nested more than {DEPTH_MAX} deep", line)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_scalar_value(self, node: yaml.Node) -> Any:
        """The text, number, truth value or null that a scalar stands for."""
        try:
            return self.construct_object(node)
        except (ValueError, KeyError):
            raise DocumentError("the value and its tag do not fit together", node.start_mark.line + 1) from None


def read(path: Path) -> Document:
    """What the file says. Raises `ConfigError`."""
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError([Problem(str(path), f"cannot be read: {error.strerror}")]) from None
    if len(data) > BYTES_MAX:
        raise ConfigError([Problem(str(path), f"is larger than {BYTES_MAX // 1024**2} MiB")])
    try:
        return Document(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(f"{path}:{line}", "is not UTF-8 text")]) from None
    except DocumentError as error:
        where = f"{path}:{error.line}" if error.line else str(path)
        raise ConfigError([Problem(where, error.message)]) from None
