"""Writes docs/reference/ from the program itself: settings, errors, verbs, events, API.

`--check` says what is stale.
"""

import argparse
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from homeport import kinds
from homeport.cli.jobs import EXITS
from homeport.cli.main import build
from homeport.cli.output import EXIT_CODES
from homeport.cli.verbs import SHARED, Verb
from homeport.config.settings import Settings
from homeport.config.tree import Setting, section, settings
from homeport.config.values import Address
from homeport.oci import errors
from homeport.oci.errors import RegistryError
from homeport.server.api.calls import BODY_BYTES_MAX
from homeport.server.api.operations import OPERATIONS, PREFIX
from homeport.server.api.streams import HEARTBEAT_SECONDS

FOLDER = Path(__file__).resolve().parents[1] / "docs/reference"

_MADE = "<!-- Made by scripts/generate_docs.py from the program itself; change it there. -->\n"

_SETTINGS = """\
# Settings

Homeport reads `--config FILE`, else `./homeport.yaml` where there is one. Everything has a default, so an empty file is
valid. What nobody knows is refused with its line, so a slip of the finger is never a silent default.

- `homeport init` writes a file in which every setting stands as a comment.
- `homeport config check` names every problem with its line; `homeport config show` prints what holds in the end.
- `homeport config schema` prints the JSON Schema with which editors check and complete the file.
- `homeport config reload`, or SIGHUP, makes a running server read it again. What is marked *live* below counts at once;
  the rest waits for the next start. A file that is wrong changes nothing.

## How values are written

| kind | such as |
|---|---|
| duration | `30`, `30s`, `5m`, `12h`, `7d`; a plain number is seconds |
| size | `1048576`, `512MiB`, `1GiB`, `10GB`; a plain number is bytes |
| path | absolute, or relative to the folder that Homeport is started in |
| pattern of repositories | `team/app`, `team/*` (any characters but `/`), `team/**` (everything below) |
| secret | where it is, never what it is: `env:NAME`, `file:/path` (the last line break is left out), or an item \
of a vault: `vault:ITEM`, `bw:ITEM`; behind it `#username`, `#uri`, `#notes` or `#field:NAME`, else the \
password of its login ([secrets](../how-to/secrets.md)) |

## Environment

A setting's variable is `HOMEPORT_` and its name in capitals with one underscore for each dot:
`HOMEPORT_SERVER_LISTEN=0.0.0.0:5000`. With `_FILE` behind it the variable names a file that has the value. The
environment wins over the file, the command line over both. Lists, maps, numbers and true or false are written as YAML:
`HOMEPORT_ACCESS_ANONYMOUS='[pull]'`. What stands inside a list or map has no variable of its own. An empty variable is
one that is not set; a `HOMEPORT_` variable that is no setting is refused, unless a secret of the file is in it.
"""

_ERRORS = """\
# Errors

What a client gets when a request fails: the HTTP status and the JSON of the distribution-spec, with one of these
codes, a sentence, and a detail. Every answer carries the request's id, under which it is in the log.

| code | status | what it means |
|---|---|---|
"""

_JOBS = """
# Jobs

What runs beside serving: by its schedule, or by `homeport jobs run KIND`. A run that ends writes the event
`KIND.finished`, whose detail is its summary.

| kind | what it does |
|---|---|
"""
_OUTCOMES = """
## How a run ends

These words stand literally in every summary, event and notification. A verb that follows a run to its end has the exit
code.

| outcome | exit code | when |
|---|---|---|
"""
_SKIPS = """
## Why a run is skipped

| reason | what it means |
|---|---|
"""
_EVENTS = """\
# Events

Every change writes its event in its own transaction, so there is no change without its event and no event without its
change. They are rows of the table `events` of the database, and the audit log.

| event | what happened |
|---|---|
"""

_API = """\
# Administration API

What runs, what happened, who was told, and which secrets can be read; [how to use it](../how-to/api.md). Each server
describes it for programs, with the types that are named here, at `/api/v1/openapi.json` (OpenAPI 3.1).

- *Login*: `Authorization: Bearer hp_...` with a token, or Basic with a user and its password. It takes an
  administrator: a user with `admin`, or a token (a robot's, or an administrator's own) whose limits, if it has any,
  give `admin` on `**`. Others get 401 or 403.
- *Requests*: a POST is `Content-Type: application/json`, also without a body, and at most {bytes_max} bytes. What is
  not known is refused.
- *Errors*: `{{"error": {{"code": "...", "message": "a sentence", "request": "the id in the server's log"}}}}`.
- *Streams* (`application/jsonl`): one JSON object a line, and an empty line each {heartbeat} seconds that nothing
  happens. One that ends early (the server stops, the login ends) is asked for again with `after`.
"""

_CLI = """\
# Command line

Exit codes: {exits}.

Standard output has what was asked for, standard error what is said beside it. With `--json` exactly one JSON document
goes to standard output, or one a line with `--follow`. Many verbs share these options; each names those that it takes:

{shared}
"""


def pages() -> dict[str, str]:
    """Every page by its file name."""
    return {
        "settings.md": _MADE + "".join(settings_page()),
        "errors.md": _MADE + "".join(errors_page()),
        "events.md": _MADE + "".join(events_page()),
        "jobs.md": _MADE + "".join(jobs_page()),
        "cli.md": _MADE + "".join(cli_page()),
        "api.md": _MADE + "".join(api_page()),
    }


def settings_page() -> Iterator[str]:
    yield _SETTINGS
    top = [name for name, field in Settings.model_fields.items() if section(field.annotation) is None]
    yield "\n## At the top\n" + _table([setting for setting in settings() if setting.path[0] in top])
    for name, field in Settings.model_fields.items():
        model = section(field.annotation)
        if model is not None:
            yield f"\n## {name}\n\n{_described(model)}\n"
            yield _table([setting for setting in settings() if setting.path[0] == name])


def _table(rows: list[Setting]) -> str:
    lines = ["\n| setting | default | |\n|---|---|---|\n"]
    for setting in rows:
        words = f" One of: {', '.join(f'`{word}`' for word in setting.choices)}." if setting.choices else ""
        live = " *Live.*" if setting.live else ""
        lines.append(f"| `{setting.name}` | {_default(setting)} | {setting.help}{words}{live} |\n")
    return "".join(lines)


def _default(setting: Setting) -> str:
    if setting.field.is_required():
        return "required"
    value = setting.field.default
    plain: Any = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Address | Path) else value
    if plain is None:
        return ""
    text = yaml.safe_dump(plain, default_flow_style=True, width=1000)
    return f"`{text.removesuffix(chr(10)).removesuffix('...').strip()}`"


def errors_page() -> Iterator[str]:
    yield _ERRORS
    for error in wire_errors():
        yield f"| `{error.code}` | {error.status} | {error('').message} |\n"


def wire_errors() -> list[type[RegistryError]]:
    """The errors that clients can get, by code and status."""
    found = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, RegistryError)]
    return sorted(found, key=lambda kind: (kind.code, kind.status, kind.__name__))


def events_page() -> Iterator[str]:
    yield _EVENTS
    yield from _words(kinds.EVENTS)


def jobs_page() -> Iterator[str]:
    yield _JOBS
    yield from _words(kinds.JOBS)
    yield _OUTCOMES
    for outcome, sentence in kinds.OUTCOMES.items():
        yield f"| `{outcome}` | {EXITS[outcome]:d} | {sentence} |\n"
    yield _SKIPS
    yield from _words(kinds.SKIPS)


def _words(sentences: Mapping[str, str]) -> Iterator[str]:
    for name, sentence in sentences.items():
        yield f"| `{name}` | {sentence} |\n"


def api_page() -> Iterator[str]:
    yield _API.format(bytes_max=BODY_BYTES_MAX, heartbeat=f"{HEARTBEAT_SECONDS:g}")
    for operation in OPERATIONS:
        path = PREFIX + operation.path.replace(":path", "")
        yield f"\n## {operation.method} `{path}`\n\n{operation.summary}\n\n"
        fields = operation.parameters.model_fields | operation.body.model_fields
        if fields:
            yield f"| {'field' if operation.body.model_fields else 'parameter'} | |\n|---|---|\n"
            yield from _words({name: field.description or "" for name, field in fields.items()})
            yield "\n"
        answers = [f"`{operation.answer.__name__}`"] if operation.answer else []
        if operation.lines:
            answers.append("lines of " + " and ".join(f"`{line.__name__}`" for line in operation.lines))
        refusals = ", ".join(str(error.status) for error in sorted(operation.refuses, key=lambda error: error.status))
        yield f"Answer: {operation.status}, {' or '.join(answers)}. Refusals: {refusals}.\n"


def cli_page() -> Iterator[str]:
    shared = "\n".join(f"- `{option}`: {text}" for option, text in SHARED.items())
    yield _CLI.format(exits=EXIT_CODES, shared=shared)
    for verb in build()[1].all:
        yield _verb(verb)


def _verb(verb: Verb) -> str:
    actions = [action for action in verb.parser._actions if action.dest != "help"]  # noqa: SLF001 (there is no other way)
    words = [f"homeport {verb.name}"]
    words += [
        str(action.metavar) + ("..." if action.nargs == "+" else "") for action in actions if not action.option_strings
    ]
    lines = [f"\n## `{' '.join(words)}`\n\n{verb.parser.description}\n\n"]
    for action in actions:
        if action.option_strings and action.option_strings[0] in verb.shared:
            continue
        name = " ".join((*action.option_strings, str(action.metavar or ""))).strip()
        if action.choices and action.option_strings:
            name = f"{action.option_strings[0]} {{{','.join(map(str, action.choices))}}}"
        if action.help:
            lines.append(f"- `{name}`: {action.help}\n")
    lines.append(f"- and {', '.join(f'`{option}`' for option in verb.shared)}\n")
    return "".join(lines)


def _described(model: type[BaseModel]) -> str:
    return inspect.getdoc(model) or ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is stale")
    check = parser.parse_args().check
    made = pages()
    stale = [name for name, text in made.items() if not _is_same(FOLDER / name, text)]
    for name in stale:
        print(f"{'stale' if check else 'wrote'}: docs/reference/{name}")
        if not check:
            FOLDER.mkdir(parents=True, exist_ok=True)
            (FOLDER / name).write_text(made[name])
    return 1 if check and stale else 0


def _is_same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main())
