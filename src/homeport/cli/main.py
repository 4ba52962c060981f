"""From the words on the command line to a verb, and from what went wrong to a sentence and an exit code."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from argparse import Action, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn

import uvloop

from homeport.cli.context import Context, Doors
from homeport.cli.output import EXIT_CODES, CommandError, Exit, Output
from homeport.cli.verbs import Verbs
from homeport.client.errors import ClientError
from homeport.clock import SystemClock
from homeport.config.environment import process_environment
from homeport.config.errors import ConfigError, SecretUnreadable
from homeport.db.database import DatabaseError
from homeport.jobs.queue import JobError
from homeport.notify.errors import DeliveryError, TargetUnknown
from homeport.oci.errors import RegistryError
from homeport.secretstore.errors import SecretUnavailable
from homeport.storage.blobstore import StorageError
from homeport.storage.datafolder import DataFolderError

_EPILOG = f"""\
exit codes: {EXIT_CODES}
`homeport VERB --help` tells more of each. Start with: homeport up"""

#: The modules that add verbs, in the order of the help, and the first words of the verbs that each adds. A module is
#: imported when its word is said: all of them take longer than most verbs.
FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "serving": ("up", "serve", "work"),
    "initialize": ("init",),
    "configuration": ("config",),
    "users": ("user",),
    "tokens": ("token",),
    "repositories": ("repo",),
    "tags": ("tag",),
    "quotas": ("quota",),
    "trash": ("trash",),
    "copying": ("copy",),
    "mirror": ("mirror",),
    "cleanup": ("cleanup",),
    "inuse": ("in-use",),
    "jobs": ("jobs",),
    "events": ("events",),
    "notify": ("notify",),
    "secret": ("secret",),
}

#: What is wrong with the world or the request, rather than with the program: its text is for people.
_EXPECTED = (
    CommandError,
    DataFolderError,
    SecretUnreadable,
    RegistryError,
    ClientError,
    DatabaseError,
    StorageError,
    JobError,
    DeliveryError,
    TargetUnknown,
    SecretUnavailable,
    OSError,
)


class _Version(Action):
    """Prints the version, which only then is looked up among all that is installed."""

    def __call__(self, parser: ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        parser.exit(message=f"homeport {version('homeport')}\n")


def build(word: str | None = None) -> tuple[ArgumentParser, Verbs]:
    """The parser, and the verbs that it knows: those that begin with `word`, or all where none does.

    `--version` needs none.
    """
    parser = ArgumentParser(
        "homeport",
        description="A container registry that a person can own.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    verbs = Verbs(parser.add_subparsers(title="verbs", metavar="VERB", required=True))
    families = [family for family, words in FAMILIES.items() if word in words]
    if not families and word != "--version":
        families = list(FAMILIES)
    for family in families:
        import_module(f"homeport.cli.{family}").add(verbs)
    return parser, verbs


def run(argv: Sequence[str], doors: Doors) -> int:
    """Do what `argv` says; the exit code."""
    parser, _ = build(*argv[:1])
    arguments = parser.parse_args(argv)
    output = Output.of_process(as_json=arguments.as_json)
    context = Context(arguments, output, process_environment(), SystemClock(), doors)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code: int = runner.run(arguments.handler(context))
            return code
    except BrokenPipeError:
        # Whoever read our output, such as `head`, has enough. Nothing more may be written, also not at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except KeyboardInterrupt:
        output.note("stopped")
        return 130
    except Exception as error:  # noqa: BLE001 (whatever it is, a person gets a sentence)
        if arguments.debug:
            traceback.print_exc()
        return _explain(error, output, context.config_file)


def _explain(error: Exception, output: Output, config_file: Path | None) -> int:
    if isinstance(error, ConfigError):
        from homeport.config.loading import located

        for problem in located(error.problems, config_file):
            output.note(str(problem))
        return Exit.WRONG
    if isinstance(error, OSError) and error.filename:
        output.note(f"{error.filename}: {error.strerror}")
    elif isinstance(error, _EXPECTED):
        output.note(str(error))
    else:
        output.note(f"a fault in Homeport: {type(error).__name__}: {error}; run it again with --debug to see where")
    return error.exit if isinstance(error, CommandError) else Exit.FAILED
