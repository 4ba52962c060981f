"""Asking a person before something goes."""

from __future__ import annotations

import sys
from argparse import ArgumentParser

from homeport.cli.context import Context
from homeport.cli.output import WrongUsage, printable


def add_yes(parser: ArgumentParser) -> None:
    """The option that answers beforehand."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def agreed(context: Context, question: str) -> bool:
    """Whether a person says yes, or said so with `--yes`. Raises `WrongUsage` where there is nobody to ask."""
    if context.arguments.yes:
        return True
    if not sys.stdin.isatty():
        raise WrongUsage("there is no terminal to ask; say --yes if it is meant")
    print(f"{printable(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
