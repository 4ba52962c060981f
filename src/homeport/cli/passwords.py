"""Where a password comes from: a prompt, standard input, a file, or chance. Never an argument."""

from __future__ import annotations

import base64
import getpass
import sys
from argparse import ArgumentParser
from pathlib import Path

from homeport.auth.passwords import Passwords, check_new
from homeport.cli.context import Context
from homeport.cli.output import WrongUsage
from homeport.clock import Clock
from homeport.config.references import SECRET_BYTES_MAX, read_secret_file


def add_options(parser: ArgumentParser) -> None:
    """The ways to give a password; without any of them a terminal is asked."""
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--generate", action="store_true", help="make one up and print it")
    ways.add_argument("--password-stdin", action="store_true", help="read it from standard input")
    ways.add_argument("--password-file", metavar="FILE", help="read it from a file")


def choose(context: Context, user: str) -> tuple[str, bool]:
    """The password, and whether it was made up here, so that it must be shown."""
    arguments = context.arguments
    if arguments.generate:
        return generate(context.clock), True
    if arguments.password_stdin:
        return _without_line_break(sys.stdin.read(SECRET_BYTES_MAX)), False
    if arguments.password_file:
        return read_secret_file(Path(arguments.password_file)), False
    if not sys.stdin.isatty():
        raise WrongUsage(
            "there is no terminal to ask for a password; use --generate, --password-stdin or --password-file"
        )
    password = getpass.getpass(f"New password for {user} (empty: make one up): ")
    if not password:
        return generate(context.clock), True
    if getpass.getpass("The same again: ") != password:
        raise WrongUsage("the two passwords differ; nothing was changed")
    return password, False


async def hash_new(clock: Clock, password: str) -> str:
    """The hash to keep of a password that somebody chose. Raises `PasswordInvalid`."""
    hashing = Passwords(clock)
    try:
        return await hashing.hash(check_new(password))
    finally:
        hashing.close()


def generate(clock: Clock) -> str:
    """120 random bits as 24 lower-case letters and digits: easy to copy, and never taken for an option."""
    return base64.b32encode(clock.random_bytes(15)).decode().lower()


def _without_line_break(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")
