"""`homeport init`: a `homeport.yaml` in which every setting stands as a comment, with its default and its sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import BaseModel

from homeport.cli.context import CONFIG_FILE, Context
from homeport.cli.output import Exit, WrongUsage
from homeport.cli.verbs import Verbs
from homeport.config.settings import Settings
from homeport.config.tree import ANY_ENTRY, ANY_KEY, Setting, bare, entry, section, settings
from homeport.config.values import Address

_HEAD = """\
# Homeport's settings. Every one has a default, which is what the comments show: take away the # where you want another.
# `homeport config check` says whether the file is right; `homeport config show` what holds in the end.
"""


def add(verbs: Verbs) -> None:
    """Add the verb."""
    verbs.verb(
        "init",
        f"Write a commented {CONFIG_FILE} to start from.",
        initialize,
        more=f"It is written to ./{CONFIG_FILE}, or where --config says. A file that is there is never overwritten.",
        data=False,
        as_json=False,
    )


async def initialize(context: Context) -> int:
    path = Path(context.arguments.config or CONFIG_FILE)
    try:
        with path.open("x", encoding="utf-8") as file:  # noqa: ASYNC230 (nothing else runs here)
            file.write(template())
    except FileExistsError:
        raise WrongUsage(f"{path} is there already and was left as it is; give another name with --config") from None
    context.output.line(f"wrote {path}: every setting with its default, as comments; start with: homeport up")
    return Exit.DONE


def template() -> str:
    """The commented file, made from the tree of settings."""
    return _HEAD + "".join(_section(Settings, depth=0))


def _section(model: type[BaseModel], depth: int) -> list[str]:
    indent = "  " * depth
    lines: list[str] = []
    for name, field in model.model_fields.items():
        below = section(field.annotation)
        if below is None:
            choices = f" One of: {', '.join(words)}." if (words := Setting((name,), field).choices) else ""
            lines += [f"\n{indent}# {field.description}{choices}\n"]
            lines += _entries(field.annotation, indent)
            lines += [f"{indent}#{name}: {_flow(field.default)}\n"]
        elif field.default is None:
            required = ", ".join(
                f"{key}: {(each.examples or ['/path'])[0]}" for key, each in below.model_fields.items()
            )
            lines += [f"\n{indent}# {field.description}\n"]
            lines += [f"{indent}#   {setting.name}: {setting.help}\n" for setting in settings(below)]
            lines += [f"{indent}#{name}: {{{required}}}\n"]
        else:
            lines += [f"\n{indent}# {below.__doc__}\n", f"{indent}{name}:\n", *_section(below, depth + 1)]
    return lines


def _entries(annotation: Any, indent: str) -> list[str]:
    """What the entries of a list or the values of a map are made of."""
    inside = section(entry(annotation))
    if inside is None:
        return []
    step = ANY_ENTRY if get_origin(bare(annotation)) is tuple else ANY_KEY
    return [f"{indent}#   {setting.name}: {setting.help}\n" for setting in settings(inside, (step,))]


def _flow(value: Any) -> str:
    """A default as YAML on one line."""
    plain = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Address | Path) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("...\n").strip()
