"""`homeport up`, `homeport serve`, `homeport work`: start the program on a data folder."""

from __future__ import annotations

from argparse import ArgumentTypeError
from contextlib import ExitStack

from homeport.cli import greeting
from homeport.cli.context import SERVE, WORK, Context
from homeport.cli.output import Exit
from homeport.cli.verbs import Verbs
from homeport.config.loading import marks
from homeport.config.values import Address, parse_address
from homeport.storage.datafolder import DataFolder, identity


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    up = verbs.verb(
        "up",
        "Start a registry here, with all that it does by itself; everything has a default.",
        start,
        more="It serves from ./homeport-data on 127.0.0.1:5000 unless the configuration says otherwise. The first\n"
        "start makes an administrator and tells its password once: on the terminal, or else in a file that it names.",
        as_json=False,
    )
    up.set_defaults(roles=(SERVE, WORK), greets=True)
    serve = verbs.verb(
        "serve",
        "Serve and nothing else: schedules, jobs and notifications wait for `homeport work`.",
        start,
        as_json=False,
    )
    serve.set_defaults(roles=(SERVE,), greets=False)
    work = verbs.verb(
        "work", "Run schedules, jobs and notifications and nothing else, beside `homeport serve`.", start, as_json=False
    )
    work.set_defaults(roles=(WORK,), greets=False)
    for parser in (up, serve):
        parser.add_argument(
            "--listen", metavar="HOST:PORT", type=_address, help="where to listen; port 0 chooses a free one"
        )


async def start(context: Context) -> int:
    settings, stamp = context.read()
    folder = DataFolder.open(settings.data, create=True)
    with ExitStack() as stack:
        locks = []
        for role in context.arguments.roles:
            locks.append(folder.lock(role))
            stack.callback(locks[-1].release)
            locks[-1].goes_by(marks(settings), stamp)
        database = settings.database_path
        folder.prepare_database(database, create=True)
        greets = context.arguments.greets
        login = await greeting.make_administrator(context, settings, folder) if greets else None

        def ready(url: str) -> None:
            for lock in locks:
                lock.serves(url, folder.from_here(database), identity(database))
            context.output.line(f"homeport: listening on {url}" if url else f"homeport: working on {settings.data}")
            if login is not None:
                context.output.line(greeting.text(settings, url, login))

        await context.doors.run(settings, context.arguments.roles, reread=context.read, ready=ready, locks=locks)
    return Exit.DONE


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise ArgumentTypeError(f"'{text}' {error}") from None
