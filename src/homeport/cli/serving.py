"""`homeport up` and `homeport serve`: start the server on a data folder."""

from __future__ import annotations

import asyncio

from homeport.cli import greeting
from homeport.cli.context import SERVE, Context
from homeport.cli.output import CommandError, Exit
from homeport.cli.verbs import Verbs
from homeport.config import Address
from homeport.storage.datafolder import DataFolder

_ANSWER_SECONDS_MAX = 2.0


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    up = verbs.verb(
        "up",
        "Start a registry here; everything has a default.",
        start,
        more="It serves from ./homeport-data on 127.0.0.1:5000 unless the configuration says otherwise. The first\n"
        "start makes an administrator and tells its password once: on the terminal, or else in a file that it names.",
        as_json=False,
    )
    serve = verbs.verb("serve", "Serve and nothing else, for services and containers.", start, as_json=False)
    for parser, greets in ((up, True), (serve, False)):
        parser.add_argument("--listen", metavar="HOST:PORT", help="where to listen; port 0 chooses a free one")
        parser.set_defaults(greets=greets)


async def start(context: Context) -> int:
    settings = context.settings()
    folder = DataFolder.open(settings.data, create=True)
    lock = folder.lock(SERVE)
    try:
        await _refuse_taken_port(settings.server.listen)
        folder.prepare_database(settings.database_path, create=True)
        greets = context.arguments.greets
        administrator = await greeting.make_administrator(context, settings) if greets else None

        def ready(url: str) -> None:
            lock.serves(url)
            context.output.line(f"homeport: listening on {url}")
            if greets:
                context.output.line(greeting.text(settings, url, administrator))

        await context.doors.serve(settings, reread=context.settings, ready=ready, lock=lock)
    finally:
        lock.release()
    return Exit.DONE


async def _refuse_taken_port(address: Address) -> None:
    """Raise where somebody answers: two that listen at one address each get a part of the requests."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 (compared, not bound)
    if address.port == 0:
        return
    try:
        async with asyncio.timeout(_ANSWER_SECONDS_MAX):
            _, writer = await asyncio.open_connection(host, address.port)
    except (OSError, TimeoutError):
        return
    writer.close()
    raise CommandError(f"something answers on {address} already; stop it, or choose another address with --listen")
