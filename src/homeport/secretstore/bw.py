"""Secrets through Bitwarden's official program `bw`, which somebody logged in and unlocked on this machine.

The session token of `bw unlock` is no login: it opens what `bw` keeps in its `data.json` on the machine where it was
made, until the next unlock there. Holds:
- the token is in the program's environment, never in its words, which everybody on the machine can read;
- where the token can't work, the error says which of the reasons it is, and what to do.

All items are listed and the meant one chosen here: `bw get item` refuses a name that is part of another one. The
program is never told to sync: it logs itself out for good when its server says no once. So what it says is what it
fetched last.
Source: bitwarden/clients, apps/cli/src/base-program.ts, apps/cli/src/commands.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from homeport.client.errors import ClientError
from homeport.client.programs import Finished, ProgramMissing, run_program
from homeport.client.redaction import plain_text
from homeport.clock import Clock
from homeport.config import settings as config
from homeport.config.references import SecretReference
from homeport.secretstore.errors import SecretUnavailable
from homeport.secretstore.items import Found, Item, member, members, select, text

#: A fresh start of `bw` takes a second or two on an idle machine.
PROGRAM_SECONDS_MAX = 60.0
OUTPUT_BYTES_MAX = 32 * 1024 * 1024

#: What of our environment `bw` is given: how to run, where its state is, how to reach its server.
PASSED_ON = (
    "PATH", "HOME", "XDG_CONFIG_HOME", "BITWARDENCLI_APPDATA_DIR", "LANG", "TZ", "TMPDIR", "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip

_LOCKED = "bw is locked: 'bw lock' or a new login took the session token's use away"
_REPLACED = "the session token is not that of the last unlock: each 'bw unlock' replaces the token before it"
_UNLOCK = "; run 'bw unlock --raw' where its data.json is, and put what it prints where 'secrets.bw.session' says"


class BitwardenProgram:
    """The program, and the session that it reads with. Asked by one at a time."""

    def __init__(
        self,
        settings: config.Bitwarden,
        clock: Clock,
        environ: Mapping[str, str],
        read_local: Callable[[SecretReference], str],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._environ = environ
        self._read_local = read_local

    async def read(self, references: Iterable[SecretReference]) -> Found:
        """The secret of each, or why there is none. Raises `SecretUnavailable` if none can be had."""
        session = self._read_local(self._settings.session).strip()
        answer = await self._list_items(session)
        content = _answer(answer)
        if member(content, "success") is not True:
            raise SecretUnavailable(self._why_not(text(content, "message"), answer, session))
        items = [
            Item(text(each, "id"), text(each, "name"), each, str)
            for each in members(member(content, "data"), "data")
            if not member(each, "deletedDate")
        ]
        return select(items, references)

    async def _list_items(self, session: str) -> Finished:
        environ = {name: self._environ[name] for name in PASSED_ON if name in self._environ}
        environ |= {"BW_SESSION": session, "BW_NOINTERACTION": "true", "BW_RESPONSE": "true"}
        if self._settings.state is not None:
            environ["BITWARDENCLI_APPDATA_DIR"] = str(self._settings.state.absolute())
        argv = (self._settings.program, "list", "items")
        try:
            return await run_program(
                self._clock, argv, environ=environ, seconds=PROGRAM_SECONDS_MAX, bytes_max=OUTPUT_BYTES_MAX
            )
        except ProgramMissing as error:
            raise SecretUnavailable(
                f"{error}; install Bitwarden's command line program, say with 'secrets.bw.program' where it is, or"
                " read the vault without it: 'vault:ITEM' and 'secrets.vaultwarden'"
            ) from None
        except ClientError as error:
            raise SecretUnavailable(str(error)) from None

    def _why_not(self, message: str, answer: Finished, session: str) -> str:
        """Which of the reasons it is that nothing was read."""
        if "not logged in" in message:
            return (
                f"bw is not logged in here: {self._state} has no data.json with a login, and a session token of another"
                " machine opens nothing without the data.json of that machine; mount its folder and name it in"
                " 'secrets.bw.state', or read the vault without bw: 'vault:ITEM' and 'secrets.vaultwarden'"
            )
        if "locked" in message:
            unlocked = _is_unlocked(self._state)
            which = f"{_LOCKED}, or {_REPLACED}" if unlocked is None else _REPLACED if unlocked else _LOCKED
            return which + _UNLOCK
        said = plain_text(message or answer.stderr.decode("utf-8", "replace"), (session,))
        return f"bw does not give its items (exit code {answer.code}): {said or 'it says nothing'}"

    @property
    def _state(self) -> Path:
        """Where it keeps its data.json, as it chooses that itself."""
        if self._settings.state is not None:
            return self._settings.state
        if folder := self._environ.get("BITWARDENCLI_APPDATA_DIR"):
            return Path(folder)
        folder = self._environ.get("XDG_CONFIG_HOME")
        return (Path(folder) if folder else Path(self._environ.get("HOME", "/"), ".config")) / "Bitwarden CLI"


def _is_unlocked(state: Path) -> bool | None:
    """Whether some session token opens what is there; None where that cannot be seen."""
    try:
        with (state / "data.json").open("rb") as file:
            content = json.loads(file.read(OUTPUT_BYTES_MAX))
        return any(name.startswith("__PROTECTED__") and value for name, value in content.items())
    except (OSError, ValueError, AttributeError, RecursionError):
        return None


def _answer(answer: Finished) -> Any:
    """The program's JSON; None for what is none."""
    try:
        return json.loads(answer.stdout)
    except (ValueError, RecursionError):
        return None
