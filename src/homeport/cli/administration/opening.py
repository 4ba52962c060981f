"""Which Homeport a verb is for: what `--server` names, else the data folder."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from homeport.cli.administration.contract import Administration
from homeport.cli.administration.local import LocalAdministration
from homeport.cli.context import Context
from homeport.cli.output import CommandError, WrongUsage


@asynccontextmanager
async def opened(context: Context) -> AsyncGenerator[Administration, None]:
    """What the command line names. Raises `WrongUsage`, `CommandError`, `SecretUnreadable`."""
    server, token_file = context.arguments.server, context.arguments.token_file
    if (server is None) != (token_file is None):
        raise WrongUsage("--server and --token-file go together: the address, and the file with a token for it")
    if server is None:
        async with LocalAdministration(context) as local:
            yield local
        return
    from homeport.cli.administration.remote import RemoteAdministration
    from homeport.client.settings import ClientSettings
    from homeport.client.transport import Transport
    from homeport.config.references import read_secret_file

    token = read_secret_file(Path(token_file)).strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise CommandError(f"{token_file} holds no token; `homeport token create` makes one")
    async with Transport(ClientSettings.of(context.settings().client), context.clock) as transport:
        yield RemoteAdministration(transport, server, token)
