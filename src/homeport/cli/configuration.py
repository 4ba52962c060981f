"""`homeport config`: whether the configuration is right, what it comes to, its schema, and reading it again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import yaml

from homeport.cli.context import SERVE, WORK, Context
from homeport.cli.output import CommandError, Exit
from homeport.cli.verbs import Verbs
from homeport.config.errors import ConfigError, Problem
from homeport.config.loading import located
from homeport.config.settings import Settings
from homeport.config.tree import schema
from homeport.storage.datafolder import DataFolder, Running

_RELOAD_SECONDS_MAX = 10.0
_POLL_SECONDS = 0.05


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    config = verbs.family("config", "Check, show and take over the configuration.")
    config.verb("check", "Say whether the configuration is right, and every problem with its line.", check)
    config.verb("show", "Print every setting as it holds: defaults, file, environment and command line together.", show)
    config.verb(
        "schema", "Print the JSON Schema of homeport.yaml, for editors.", print_schema, data=False, as_json=False
    )
    config.verb(
        "reload",
        "Make the running server read the configuration again.",
        reload,
        more="A configuration that is wrong changes nothing: the server keeps what it has and this verb says why.",
    )


async def check(context: Context) -> int:
    settings = context.settings()
    found = [*context.doors.problems(settings, context.environ), *_unreadable_files(settings)]
    problems = list(map(str, located(found, context.config_file)))
    source = context.config_file or "no configuration file; the defaults"
    text = "\n".join(problems) or f"{source}: all is right"
    context.output.result({"file": str(context.config_file or ""), "problems": problems}, text)
    return Exit.WRONG if problems else Exit.DONE


def _unreadable_files(settings: Settings) -> Iterator[Problem]:
    """The files that the settings name and that this user cannot read."""
    for setting, path in _files(settings):
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            yield Problem(setting, f"{path} cannot be read: {error.strerror}")


def _files(settings: Settings) -> Iterator[tuple[str, Path]]:
    if settings.server.tls:
        yield "server.tls.certificate", settings.server.tls.certificate
        yield "server.tls.key", settings.server.tls.key
    for path in settings.client.ca:
        yield "client.ca", path
    for name, host in settings.client.hosts.items():
        if host.ca:
            yield f"client.hosts.{name}.ca", host.ca


async def show(context: Context) -> int:
    tree = context.settings().model_dump(mode="json")
    context.output.result(tree, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).rstrip())
    return Exit.DONE


async def print_schema(context: Context) -> int:
    context.output.line(json.dumps(schema(), indent=2))
    return Exit.DONE


async def reload(context: Context) -> int:
    try:
        settings = context.settings()
    except ConfigError:
        context.output.note("nothing is taken over; a running server keeps the configuration that it has")
        raise
    folder = DataFolder.open(settings.data, create=False)
    # `up` has both roles; `serve` and `work` may be two processes.
    running = {role: found for role in (SERVE, WORK) if (found := folder.running(role)) is not None}
    if not running:
        raise CommandError(f"no server runs on {folder.path}; it reads the configuration when it starts")
    for pid in {before.pid for before in running.values()}:
        os.kill(pid, signal.SIGHUP)
    answers = [await _answer(context, folder, role, before) for role, before in running.items()]
    # One that refuses is what has to be known.
    after = next((answer for answer in answers if not answer.applied), answers[0])
    context.output.result({"applied": after.applied, "answer": after.answer}, after.answer)
    return Exit.DONE if after.applied else Exit.WRONG


async def _answer(context: Context, folder: DataFolder, role: str, before: Running) -> Running:
    """What the process of the role says once it has read the configuration again."""
    deadline = context.clock.monotonic() + _RELOAD_SECONDS_MAX
    while context.clock.monotonic() < deadline:
        await context.clock.sleep(_POLL_SECONDS)
        now = folder.running(role)
        if now and now.pid == before.pid and now.reloads > before.reloads:
            return now
    raise CommandError(
        f"the server (process {before.pid}) gave no answer within {_RELOAD_SECONDS_MAX:.0f} seconds; see its log"
    )
