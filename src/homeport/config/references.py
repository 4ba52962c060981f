"""Secrets in the configuration: where one is, never what it is; and the process's environment.

Holds: a value that was pasted in is refused without being repeated, since error texts end up in logs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

SECRET_BYTES_MAX = 64 * 1024

_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SecretUnreadable(Exception):
    """A secret that the configuration refers to is not there."""


def process_environment() -> Mapping[str, str]:
    """The environment that this process was started with."""
    return dict(os.environ)


@dataclass(frozen=True, slots=True)
class SecretReference:
    """`env:NAME` or `file:/path`."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    def read(self, environ: Mapping[str, str]) -> str:
        """The secret, without the line break that editors put at the end of a file. Raises `SecretUnreadable`."""
        secret = environ.get(self.name, "") if self.kind == "env" else read_secret_file(Path(self.name))
        if not secret:
            raise SecretUnreadable(f"{self} is empty or not set")
        return secret


def read_secret_file(path: Path) -> str:
    """The text of a small file without its last line break. Raises `SecretUnreadable`."""
    try:
        with path.open("rb") as file:
            data = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise SecretUnreadable(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > SECRET_BYTES_MAX:
        raise SecretUnreadable(f"{path} is larger than {SECRET_BYTES_MAX // 1024} KiB, so it is no secret")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise SecretUnreadable(f"{path} is not UTF-8 text") from error
    return text.removesuffix("\n").removesuffix("\r")


def _parse_reference(value: Any) -> SecretReference:
    if isinstance(value, SecretReference):
        return value
    kind, colon, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not colon or kind not in ("env", "file"):
        raise ValueError(
            "write where the secret is, 'env:NAME' or 'file:/path', not the secret itself:"
            " this file is copied, committed and shown"
        )
    if kind == "env" and not _ENVIRONMENT_NAME.fullmatch(name):
        raise ValueError("after 'env:' comes the name of an environment variable")
    if kind == "file" and not name:
        raise ValueError("after 'file:' comes the path of a file")
    return SecretReference(kind, name)


Secret = Annotated[
    SecretReference,
    PlainValidator(_parse_reference),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": "^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$"}),
]
