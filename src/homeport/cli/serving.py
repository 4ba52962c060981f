"""`homeport up` and `homeport serve`: start the server on a data folder."""

from __future__ import annotations

from argparse import ArgumentTypeError

from homeport.cli import greeting
from homeport.cli.context import SERVE, Context
from homeport.cli.output import Exit
from homeport.cli.verbs import Verbs
from homeport.config.values import Address, parse_address
from homeport.storage.datafolder import DataFolder


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
        parser.add_argument(
            "--listen", metavar="HOST:PORT", type=_address, help="where to listen; port 0 chooses a free one"
        )
        parser.set_defaults(greets=greets)


async def start(context: Context) -> int:
    settings = context.settings()
    folder = DataFolder.open(settings.data, create=True)
    lock = folder.lock(SERVE)
    try:
        folder.prepare_database(settings.database_path, create=True)
        greets = context.arguments.greets
        login = await greeting.make_administrator(context, settings, folder) if greets else None

        def ready(url: str) -> None:
            lock.serves(url)
            context.output.line(f"homeport: listening on {url}")
            if login is not None:
                context.output.line(greeting.text(settings, url, login))

        await context.doors.serve(settings, reread=context.settings, ready=ready, lock=lock)
    finally:
        lock.release()
    return Exit.DONE


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise ArgumentTypeError(f"'{text}' {error}") from None
