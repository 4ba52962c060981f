"""Secrets in the configuration: where one is, never what it is.

Holds: a value that was pasted in is refused without being repeated, since error texts end up in logs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from homeport.config.errors import SecretUnreadable

SECRET_BYTES_MAX = 64 * 1024

_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

#: Those that need nobody's answer, and those that a vault is asked for.
LOCAL_KINDS = ("env", "file")
VAULT_KINDS = ("vault", "bw")

#: What can be asked of a vault's item behind '#', beside `field:NAME`. Without it, the password of its login.
VAULT_PARTS = ("username", "uri", "notes")
_FIELD = "field:"


@dataclass(frozen=True, slots=True)
class SecretReference:
    """`env:NAME`, `file:/path`, or an item of a vault: `vault:NAME`, `bw:NAME`, each with `#part` or without."""

    kind: str
    name: str
    #: Of a vault's item: one of `VAULT_PARTS`, `field:NAME`, or empty for the password of its login.
    part: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}#{self.part}" if self.part else f"{self.kind}:{self.name}"

    @property
    def is_local(self) -> bool:
        """Whether it can be read here and now; the others are the secret store's."""
        return self.kind in LOCAL_KINDS

    @property
    def field(self) -> str | None:
        """The name of the item's own field that is meant, if one is."""
        return self.part.removeprefix(_FIELD) if self.part.startswith(_FIELD) else None

    def read(self, environ: Mapping[str, str]) -> str:
        """The secret, without the line break that editors put at the end of a file. Raises `SecretUnreadable`."""
        assert self.is_local, self
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


def parse_reference(value: Any) -> SecretReference:
    """A reference of any kind. Raises `ValueError`, which does not repeat what may be the secret itself."""
    return _parse(value, (*LOCAL_KINDS, *VAULT_KINDS), "'env:NAME', 'file:/path', 'vault:ITEM' or 'bw:ITEM'")


def _parse_local(value: Any) -> SecretReference:
    if isinstance(value, str) and value.partition(":")[0] in VAULT_KINDS:
        raise ValueError("opens the vault, so it cannot be in it: write 'env:NAME' or 'file:/path'")
    return _parse(value, LOCAL_KINDS, "'env:NAME' or 'file:/path'")


def _parse(value: Any, kinds: tuple[str, ...], forms: str) -> SecretReference:
    if isinstance(value, SecretReference):
        return value
    kind, colon, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not colon or kind not in kinds:
        raise ValueError(
            f"write where the secret is, {forms}, not the secret itself: this file is copied, committed and shown"
        )
    if kind in VAULT_KINDS:
        name, _, part = name.partition("#")
        if not name.strip() or not name.isprintable():
            raise ValueError(f"after '{kind}:' comes the name or the id of an item")
        is_field = part.startswith(_FIELD) and part != _FIELD
        if "#" in value and part not in VAULT_PARTS and not is_field:
            raise ValueError("after '#' comes username, uri, notes or field:NAME; without it, the login's password")
        return SecretReference(kind, name, part)
    if kind == "env" and not _ENVIRONMENT_NAME.fullmatch(name):
        raise ValueError("after 'env:' comes the name of an environment variable")
    if kind == "file" and not name:
        raise ValueError("after 'file:' comes the path of a file")
    return SecretReference(kind, name)


_LOCAL_PATTERN = "env:[A-Za-z_][A-Za-z0-9_]*|file:.+"
_VAULT_PATTERN = "(vault|bw):[^#]+(#(username|uri|notes|field:.+))?"
REFERENCE_PATTERN = f"^({_LOCAL_PATTERN}|{_VAULT_PATTERN})$"

Secret = Annotated[
    SecretReference,
    PlainValidator(parse_reference),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": REFERENCE_PATTERN}),
]
#: What opens a vault.
LocalSecret = Annotated[
    SecretReference,
    PlainValidator(_parse_local),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": f"^({_LOCAL_PATTERN})$"}),
]
