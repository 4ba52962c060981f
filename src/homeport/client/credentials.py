"""Logins for other registries: given in the configuration, or the ones that `docker login` left on this machine.

Holds: a login is looked up for exactly one host and never offered to another; none of its values appears in a `repr`.
Source: Docker CLI documentation, "Credential stores" (`auths`, `credHelpers`, `credsStore`, the helpers' protocol).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from homeport.client.errors import ClientError
from homeport.client.programs import Finished, run_program
from homeport.client.redaction import plain_text
from homeport.clock import Clock
from homeport.oci.reference import DOCKER_HUB

#: Where Docker keeps the login for Docker Hub.
DOCKER_HUB_KEY = "https://index.docker.io/v1/"

CONFIG_BYTES_MAX = 4 * 1024 * 1024
HELPER_ANSWER_BYTES_MAX = 64 * 1024
HELPER_SECONDS_MAX = 30.0

#: The user name that says that the secret is an identity token.
_IDENTITY_TOKEN_USER = "<token>"  # noqa: S105  (a marker, no secret)
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Credential:
    """A user name and password, or an identity token (OAuth2's refresh token), which takes precedence."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an `Authorization` header. Source: RFC 7617."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.password, self.identity_token, self.basic.removeprefix("Basic "))


class CredentialSource(Protocol):
    """Where logins come from."""

    async def find(self, host: str) -> Credential | None:
        """The login for `host` (`host` or `host:port` as in a reference, `docker.io` for Docker Hub), or None."""


@dataclass(frozen=True, slots=True)
class FixedCredentials:
    """Logins that were given, by host; whoever else is asked for, `otherwise` knows."""

    by_host: Mapping[str, Credential] = field(default_factory=dict)
    otherwise: CredentialSource | None = None

    async def find(self, host: str) -> Credential | None:
        if host in self.by_host or self.otherwise is None:
            return self.by_host.get(host)
        return await self.otherwise.find(host)


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """What `docker login` keeps in its `config.json`. The file is read anew each time: a login counts at once."""

    path: Path
    #: What the helpers get: they find the desktop's or the cloud's store by it.
    environ: Mapping[str, str] = field(repr=False)
    clock: Clock

    @classmethod
    def of_this_user(cls, environ: Mapping[str, str], clock: Clock) -> DockerConfig:
        """Where Docker looks: `$DOCKER_CONFIG`, else `~/.docker`."""
        folder = environ.get("DOCKER_CONFIG")
        return cls((Path(folder) if folder else Path.home() / ".docker") / "config.json", environ, clock)

    async def find(self, host: str) -> Credential | None:
        document = self._read()
        key = DOCKER_HUB_KEY if host == DOCKER_HUB else host
        helper = _object(document, "credHelpers").get(host) or document.get("credsStore")
        if helper:
            return await _ask_helper(str(helper), key, self.environ, self.clock)
        for name, entry in _object(document, "auths").items():
            if (name == key or _host_of(name) == host) and isinstance(entry, dict):
                return _entry_credential(entry, f"{self.path}: auths.{plain_text(name)}")
        return None

    def _read(self) -> dict[str, Any]:
        try:
            with self.path.open("rb") as file:
                document = json.loads(file.read(CONFIG_BYTES_MAX))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ClientError(f"{self.path} cannot be read: {error.strerror}") from None
        except ValueError:
            raise ClientError(f"{self.path} is not JSON") from None
        return document if isinstance(document, dict) else {}


def _entry_credential(entry: Mapping[str, Any], where: str) -> Credential | None:
    identity_token = str(entry.get("identitytoken") or "")
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            text = base64.b64decode(str(entry["auth"]), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise ClientError(f"{where}: `auth` is not the base64 of USER:PASSWORD") from None
        username, _, password = text.partition(":")
        password = password.strip("\0")
    if not identity_token and not username:
        return None  # what `docker login` leaves behind when a credential store holds the rest
    return Credential(username, password, identity_token)


async def _ask_helper(name: str, key: str, environ: Mapping[str, str], clock: Clock) -> Credential | None:
    """Asks `docker-credential-NAME`. Source: docker/docker-credential-helpers, README, "Development"."""
    if not _HELPER_NAME.fullmatch(name):
        raise ClientError(f"{plain_text(name)} is not the name of a credential helper")
    program = f"docker-credential-{name}"
    finished = await run_program(
        clock,
        (program, "get"),
        environ=environ,
        stdin=key.encode(),
        seconds=HELPER_SECONDS_MAX,
        bytes_max=HELPER_ANSWER_BYTES_MAX,
    )
    return _helper_credential(program, finished)


def _helper_credential(program: str, finished: Finished) -> Credential | None:
    if finished.code != 0:
        # The protocol has no code for "none": only this sentence on standard output.
        if b"credentials not found" in finished.stdout:
            return None
        raise ClientError(f"the credential helper {program} failed with status {finished.code}")
    try:
        answer = json.loads(finished.stdout)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise ClientError(f"the credential helper {program} answered with something else than a login") from None
    if username == _IDENTITY_TOKEN_USER:
        return Credential(identity_token=secret)
    return Credential(username, secret) if username else None


def _object(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _host_of(key: str) -> str:
    """The host of a key in `auths`: old versions of Docker wrote addresses there."""
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]
