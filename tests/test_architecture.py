"""The rules that hold for every file, so that nobody has to remember them (DESIGN in short: ARCHITECTURE.md).

Each check is a function from source to a list of sentences; each is shown to fail on a snippet that breaks it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.support.source import ROOT, Module, everything, package

# --- the rules, as data -----------------------------------------------------------------------------------------

#: A module imports from lower layers only, and from what `BESIDE` lists for it.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("oci", "kinds", "config", "clock", "observe"),
    ("db", "storage", "client"),
    ("jobs", "events", "secretstore", "auth", "upstreams"),
    ("registry",),
    ("administration", "housekeeping", "mirror", "build", "notify", "garbage", "inuse", "backup", "deploy"),
    ("server", "web", "cli"),
    ("app",),
    ("__main__",),
)
#: Within a layer: who may import whom.
BESIDE: Mapping[str, frozenset[str]] = {
    "config": frozenset({"oci", "kinds"}),
    "observe": frozenset({"clock"}),
    "events": frozenset({"jobs"}),
    "secretstore": frozenset({"jobs", "events"}),
    "auth": frozenset({"jobs", "events", "secretstore"}),
    "upstreams": frozenset({"secretstore"}),
}
#: Imported by tests only; it may import what it tests.
TESTING = "testing"
#: The only imports that may stand in a function: what a module imports when it is asked for. A verb that asks a server
#: that runs for something is over before all of Homeport is imported, so of that it imports what it needs.
LAZY: Mapping[str, tuple[str, ...]] = {
    "__main__.py": ("homeport.app",),  # The doors: what a verb asks the composition root for.
    "config/place.py": ("homeport.config.document",),  # Where nobody names the folder.
    # What each verb but `run` works with.
    "cli/mirror.py": ("homeport.cli.mirror_plan", "homeport.cli.mirror_standing", "homeport.cli.mirror_files"),
    # With --server only.
    "cli/administration/opening.py": (
        "homeport.cli.administration.remote",
        "homeport.client",
        "homeport.config.references",
    ),
    "cli/administration/local.py": ("homeport.notify",),  # What few verbs ask for.
    "cli/context.py": ("homeport.config",),  # The settings: where a server runs, most verbs need none.
    # What explains that they are wrong; what only `--version` asks for.
    "cli/main.py": ("homeport.config.loading", "importlib.metadata"),
    "cli/options.py": ("homeport.config",),  # What checks a value, if one is given.
    "cli/progress.py": ("homeport.cli.progress_bar",),  # On a terminal only.
}

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600

#: What reaches past `clock`, `config`, `client` and `storage` into the world, by kind. A name stands for all below it.
AMBIENT: Mapping[str, tuple[str, ...]] = {
    "time": ("time", "asyncio.sleep", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today",
             "datetime.date.today"),
    "time-outs": ("asyncio.timeout", "asyncio.timeout_at", "asyncio.wait_for", "sched"),
    "randomness": ("random", "secrets", "uuid", "os.urandom", "os.getrandom"),
    "environment": ("os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv", "os.unsetenv"),
    "threads": ("threading", "_thread", "concurrent", "multiprocessing", "asyncio.to_thread", "queue"),
    "processes": ("subprocess", "os.fork", "os.system", "os.popen", "os.spawn", "os.posix_spawn", "os.killpg",
                  "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell", "asyncio.subprocess"),
    "network": ("socket", "ssl", "http.client", "http.server", "urllib.request", "aiohttp", "socketserver", "select",
                "asyncio.open_connection", "asyncio.start_server", "asyncio.open_unix_connection"),
    "disk": ("open", "io.open", "os.open", "os.remove", "os.unlink", "os.rename", "os.replace", "os.mkdir",
             "os.makedirs", "os.rmdir", "os.listdir", "os.scandir", "os.stat", "os.fsync", "os.path.exists",
             "shutil", "tempfile", "glob", "fcntl", "mmap", "ctypes"),
    "imports by name": ("importlib.import_module", "__import__"),
    "terminal": ("sys.argv", "sys.stdin", "sys.stdout", "sys.stderr", "getpass", "input", "print"),
}  # fmt: skip
#: The same where only the method's name is known: `loop.run_in_executor`, `path.read_text`.
AMBIENT_METHODS: Mapping[str, str] = {
    "run_in_executor": "threads", "call_later": "time", "call_at": "time",
    "add_signal_handler": "processes", "subprocess_exec": "processes", "subprocess_shell": "processes",
    "read_text": "disk", "read_bytes": "disk", "write_text": "disk", "write_bytes": "disk", "touch": "disk",
    "iterdir": "disk",
}  # fmt: skip
#: Who may reach what, and why: a file, or with a slash at its end a whole package.
ALLOWED: Mapping[str, tuple[str, ...]] = {
    "clock.py": ("time", "time-outs", "randomness", "threads"),  # The one door to them.
    "storage/bell.py": ("network",),  # A local socket in the data folder, over which nothing is said.
    "storage/": ("disk",),  # The one door to the disk, but for the database's own file:
    "db/sqlite.py": ("disk",),  # ... which it makes before SQLite does, and whose log it flushes.
    "db/migrate.py": ("disk",),  # Schema files, which are part of the package.
    "client/transport.py": ("network", "time-outs"),  # The one door to other registries, and how long to wait at it.
    "client/engines.py": ("network",),  # The one door to container engines, most of which are local sockets.
    "client/programs.py": ("processes",),  # The one door to other programs.
    "server/listener.py": ("network", "time"),  # Granian on a real socket: nothing of it runs in a simulation.
    "config/environment.py": ("environment",),  # The one door to it.
    # A process of its own, started by client/programs.py, whose libraries take proxy and authorities from there only.
    "notify/apprise_child.py": ("environment", "network", "disk", "terminal"),
    "app/": ("processes", "terminal"),  # Signals, and the stream that the log is written to.
    "__main__.py": ("terminal",),
    "cli/interrupts.py": ("processes",),  # Signals, while a run is followed.
    "cli/main.py": ("imports by name",),  # The family of verbs that the first word means, and no other.
    "cli/": ("terminal", "disk"),  # What people call: it talks to them, and makes the files that they ask for.
}

# --- the checks -------------------------------------------------------------------------------------------------


def imported_units(module: Module, units: frozenset[str]) -> Iterator[str]:
    """The modules and packages directly below `homeport` that it imports."""
    for _, name in module.imports():
        parts = name.split(".")
        if parts[0] == "homeport" and parts[1] in units:
            yield parts[1]


def against_direction(modules: Iterable[Module]) -> list[str]:
    """Imports of a higher layer, or of a neighbour without leave; and units that no layer has."""
    layer_of = {unit: layer for layer, names in enumerate(LAYERS) for unit in names}
    units = frozenset(layer_of) | {TESTING}
    found = []
    for module in modules:
        if module.unit in {"", TESTING}:
            continue
        if module.unit not in layer_of:
            found.append(f"{module.path}: no layer has '{module.unit}'")
            continue
        for other in sorted({*imported_units(module, units)} - {module.unit}):
            beside = other in BESIDE.get(module.unit, ())
            if other == TESTING or not (layer_of[other] < layer_of[module.unit] or beside):
                found.append(f"{module.path} imports {other}")
    return found


def cycles(modules: Iterable[Module]) -> list[str]:
    """Modules that import one another, directly or in a round."""
    by_name = {module.name: module for module in modules}
    graph: dict[str, set[str]] = {}
    for name, module in by_name.items():
        # `from a.b import c` asks for the module a.b.c if there is one, else for a.b.
        asked = (full if full in by_name else full.rpartition(".")[0] for _, full in module.imports())
        graph[name] = {other for other in asked if other in by_name and other != name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" -> ".join(reversed(error.args[1]))]
    return []


def lazy_imports(modules: Iterable[Module]) -> list[str]:
    """Imports that are not at a module's top level, but for those of `LAZY`, and for types that annotations name."""
    found = []
    for module in modules:
        allowed = LAZY.get(module.path, ())
        for node, name in _late(module):
            if not _stands_for(name, allowed):
                found.append(f"{module.path}:{node.lineno} imports {name} lazily")
        for node, name in module.imports():
            if name.startswith("."):
                found.append(f"{module.path}:{node.lineno} imports {name} relatively")
    return found


def _late(module: Module) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """The imports that happen, if at all, after the module was imported."""
    top = {id(node) for node in module.tree.body}
    for block in module.tree.body:
        if isinstance(block, ast.If) and module.full_name(block.test) == "typing.TYPE_CHECKING":
            top |= {id(node) for node in block.body}
    return ((node, name) for node, name in module.imports() if id(node) not in top)


def _stands_for(name: str, allowed: Iterable[str]) -> bool:
    """Whether it is one of these names, or below one."""
    return any(name == each or name.startswith(f"{each}.") for each in allowed)


def table_owners(schema: str) -> dict[str, str]:
    """Which module owns each table, as `-- owner: path` before its CREATE TABLE says. An unowned table is `''`."""
    owners = {}
    owner = ""
    for line in schema.splitlines():
        if said := re.match(r"-- owner: (\S+)", line):
            owner = said[1]
        elif made := re.match(r"CREATE (TABLE|VIEW) (\w+)", line):
            if made[1] == "TABLE":
                owners[made[2]] = owner
            owner = ""
    return owners


def foreign_tables(modules: Iterable[Module], owners: Mapping[str, str]) -> list[str]:
    """SQL that names a table of another module; tables without an owner; owners that are not there."""
    modules = list(modules)
    paths = {module.path for module in modules}
    found = [f"table {table}: its owner {path!r} is not there" for table, path in owners.items() if path not in paths]
    for module in modules:
        if module.unit == TESTING:
            continue  # The model and the suites look at what they test.
        for text in module.strings():
            if re.search(r"\b(SELECT|INSERT|UPDATE|DELETE|FROM|JOIN|INTO)\b", str(text.value)):
                tables = sorted(owners.keys() & set(re.findall(r"\w+", str(text.value))))
                found += [
                    f"{module.path}:{text.lineno} names {table} of {owners[table]}"
                    for table in tables
                    if owners[table] != module.path
                ]
    return found


def ambient_world(modules: Iterable[Module]) -> list[str]:
    """Time, randomness, environment, threads, network and disk that did not come in through their doors."""
    kinds = {name: kind for kind, names in AMBIENT.items() for name in names}
    found = []
    for module in modules:
        if module.unit == TESTING:
            continue
        allowed = {kind for path, some in ALLOWED.items() if module.path.startswith(path) for kind in some}
        for line, name, kind in sorted(_reached(module, kinds)):
            if kind not in allowed:
                found.append(f"{module.path}:{line} reaches {name} ({kind})")
    return found


def _reached(module: Module, kinds: Mapping[str, str]) -> set[tuple[int, str, str]]:
    found = set()
    for node, name in module.imports():
        if kind := _kind_of(name, kinds):
            found.add((node.lineno, name, kind))
    for expression in ast.walk(module.tree):
        if isinstance(expression, ast.Attribute) and expression.attr in AMBIENT_METHODS:
            found.add((expression.lineno, expression.attr, AMBIENT_METHODS[expression.attr]))
        if isinstance(expression, ast.Attribute | ast.Name) and _is_global(module, expression):
            name = module.full_name(expression) or ""
            if kind := _kind_of(name, kinds):
                found.add((expression.lineno, name, kind))
        if isinstance(expression, ast.Call):
            found.update((expression.lineno, *reached) for reached in _reached_by_call(module, expression))
    return found


def _reached_by_call(module: Module, call: ast.Call) -> Iterator[tuple[str, str]]:
    """`loop.time()`, and `asyncio.wait(..., timeout=1)`."""
    if isinstance(call.func, ast.Attribute) and call.func.attr == "time" and not call.args:
        yield "time()", "time"
    if (module.full_name(call.func) or "").startswith("asyncio.") and any(
        word.arg == "timeout" for word in call.keywords
    ):
        yield "timeout=", "time-outs"


def _is_global(module: Module, expression: ast.expr) -> bool:
    """Whether it begins with an import or a builtin; a local variable may well be called `time`."""
    while isinstance(expression, ast.Attribute):
        expression = expression.value
    return isinstance(expression, ast.Name) and (
        expression.id in module.names or expression.id in {"open", "print", "input"}
    )


def _kind_of(name: str, kinds: Mapping[str, str]) -> str | None:
    parts = name.split(".")
    return next((kinds[head] for end in range(len(parts), 0, -1) if (head := ".".join(parts[:end])) in kinds), None)


def too_long(modules: Iterable[Module]) -> list[str]:
    """Functions and files that are more than a reader can hold."""
    found = []
    for module in modules:
        lines = module.text.count("\n")
        if lines > FILE_LINES_MAX:
            found.append(f"{module.path} has {lines} lines")
        for function in module.functions():
            assert function.end_lineno is not None
            length = function.end_lineno - function.lineno + 1
            if length > FUNCTION_LINES_MAX:
                found.append(f"{module.path}::{function.name} has {length} lines")
    return found


def undocumented(modules: Iterable[Module]) -> list[str]:
    """Modules that do not say what lives in them; of the package also public classes and the methods of contracts."""
    found = []
    for module in modules:
        if not ast.get_docstring(module.tree):
            found.append(f"{module.path} has no docstring")
        if module.path.startswith(("tests/", "bench/", "scripts/")):
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                lacking = [] if ast.get_docstring(node) else [node.name]
                lacking += [f"{node.name}.{method.name}" for method in _contract(node) if not ast.get_docstring(method)]
                found += [f"{module.path}::{name} has no docstring" for name in lacking]
    return found


def _contract(node: ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for method in node.body:
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and any(
            isinstance(decorator, ast.Name) and decorator.id == "abstractmethod" for decorator in method.decorator_list
        ):
            yield method


def awaiting_facts(modules: Iterable[Module]) -> list[str]:
    """Functions that are handed a transaction and could give up the thread while it is open."""
    return [
        f"{module.path}::{function.name} is async and takes a transaction"
        for module in modules
        for function in module.functions()
        if isinstance(function, ast.AsyncFunctionDef) and any(each.arg == "tx" for each in function.args.args)
    ]


def busy_packages(modules: Iterable[Module]) -> list[str]:
    """Packages whose `__init__` does more than say what they are and re-export: so knots of imports begin."""
    return [
        f"{module.path}:{node.lineno} is code"
        for module in modules
        if module.path.endswith("__init__.py")
        for node in module.tree.body
        if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr)
        and not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")
    ]


def shadows(modules: Iterable[Module]) -> list[str]:
    """Modules directly below the package that are called like one of the standard library."""
    units = {module.unit for module in modules}
    return [f"{unit} is a module of the standard library" for unit in sorted(units & sys.stdlib_module_names)]


# --- they hold --------------------------------------------------------------------------------------------------

SCHEMA = "\n".join(file.read_text("utf-8") for file in sorted((ROOT / "src/homeport/db/schema").glob("*.sql")))


def check_tables(modules: Iterable[Module]) -> list[str]:
    return foreign_tables(modules, table_owners(SCHEMA))


@pytest.mark.parametrize(
    "check",
    [against_direction, cycles, lazy_imports, check_tables, ambient_world, awaiting_facts, busy_packages, shadows],
    ids=lambda check: check.__name__,
)
def test_the_package_keeps_the_rule(check: Callable[[Iterable[Module]], list[str]]) -> None:
    assert check(package()) == []


@pytest.mark.parametrize("check", [too_long, undocumented], ids=lambda check: check.__name__)
def test_every_file_keeps_the_rule(check: Callable[[Iterable[Module]], list[str]]) -> None:
    assert check(everything()) == []


def test_exceptions_are_still_needed() -> None:
    """A leave that nobody uses is taken away, so the lists above stay the truth."""
    kinds = {name: kind for kind, names in AMBIENT.items() for name in names}
    modules = package()
    for path, allowed in ALLOWED.items():
        used = {kind for module in modules if module.path.startswith(path) for _, _, kind in _reached(module, kinds)}
        assert set(allowed) <= used, path
    for path, allowed in LAZY.items():
        late = [name for module in modules if module.path == path for _, name in _late(module)]
        for each in allowed:
            assert any(_stands_for(name, [each]) for name in late), (path, each)


# --- and each can fail ------------------------------------------------------------------------------------------


def snippet(path: str, text: str) -> Module:
    return Module(path, text)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("registry/blobs.py", "from homeport.server.http import Request"),
        ("registry/blobs.py", "import homeport.server.http"),
        ("registry/blobs.py", "from homeport import app"),
        ("db/sqlite.py", "from homeport.storage.disk import Disk"),
        ("jobs/queue.py", "from homeport import events"),
        ("mirror/plan.py", "from homeport.notify import webhooks"),
        ("server/token.py", "from homeport.cli.main import main"),
        ("oci/digest.py", "from homeport.clock import Clock"),
        ("cli/main.py", "from homeport.app import serve"),
        ("storage/disk.py", "from homeport.testing.disk_faults import MemoryDisk"),
        ("surprise.py", ""),
    ],
)
def test_an_import_against_the_direction_is_seen(path: str, text: str) -> None:
    assert len(against_direction([snippet(path, text)])) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("events.py", "from homeport.db.database import Transaction"),
        ("events.py", "from homeport import jobs"),
        ("registry/tags.py", "from homeport.registry import blobs"),
        ("__main__.py", "from homeport import app"),
        ("testing/simulation.py", "from homeport.registry import blobs"),
    ],
)
def test_an_import_with_the_direction_is_fine(path: str, text: str) -> None:
    assert against_direction([snippet(path, text)]) == []


def test_a_cycle_is_seen() -> None:
    one = snippet("registry/one.py", "from homeport.registry import two")
    two = snippet("registry/two.py", "from homeport.registry.three import verb")
    three = snippet("registry/three.py", "import homeport.registry.one")
    assert cycles([one, two]) == []
    assert cycles([one, two, three]) != []


def test_an_import_that_is_lazy_or_relative_is_seen() -> None:
    assert lazy_imports([snippet("a.py", "def f():\n    import json")])
    assert lazy_imports([snippet("a.py", "if True:\n    import json")])
    assert lazy_imports([snippet("a.py", "from . import b")])
    assert lazy_imports([snippet("__main__.py", "def f():\n    from homeport.cli import main")])
    assert not lazy_imports([snippet("__main__.py", "def f():\n    from homeport.app import core")])
    assert not lazy_imports([snippet("a.py", "import json")])
    types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import json"
    assert not lazy_imports([snippet("a.py", types)])
    assert lazy_imports([snippet("a.py", f"{types}\nelse:\n    import json")])


def test_sql_that_names_a_table_of_another_module_is_seen() -> None:
    owners = table_owners(
        "-- owner: registry/tags.py\n-- why\nCREATE TABLE tags (\n);\nCREATE TABLE stray (\n);\nCREATE VIEW seen AS"
    )
    assert owners == {"tags": "registry/tags.py", "stray": ""}
    del owners["stray"]
    owner = snippet("registry/tags.py", 'x = "DELETE FROM tags"')
    assert foreign_tables([owner], owners) == []
    for text in ('"SELECT 1 FROM a, tags"', 'f"UPDATE tags SET {x} = 1"', '"INSERT" " INTO tags"', '"… JOIN tags t"'):
        assert foreign_tables([owner, snippet("registry/blobs.py", f"x = {text}")], owners), text
    for text in ('x = "SELECT 1 FROM seen"', 'x = "the tags of it"', '"""SELECT of tags is what this module does."""'):
        assert foreign_tables([owner, snippet("registry/blobs.py", text)], owners) == [], text
    assert foreign_tables([], owners)
    assert foreign_tables([owner], {"stray": ""})


@pytest.mark.parametrize(
    "text",
    [
        "import time",
        "import time as t\nt.monotonic()",
        "from time import monotonic",
        "from datetime import datetime\ndatetime.now()",
        "import datetime\ndatetime.datetime.now()",
        "import random",
        "from secrets import token_bytes",
        "import uuid",
        "import os\nos.urandom(4)",
        "import os\nos.environ['X']",
        "from os import getenv",
        "import threading",
        "from concurrent.futures import ThreadPoolExecutor",
        "import asyncio\nasyncio.sleep(1)",
        "import asyncio\nasyncio.wait_for(x, 1)",
        "import asyncio as a\na.timeout(1)",
        "from asyncio import to_thread",
        "import asyncio\nasyncio.get_running_loop().run_in_executor(None, f)",
        "loop.call_later(1, f)",
        "loop.time()",
        "import asyncio\nasyncio.wait([x], timeout=1)",
        "import socket",
        "import aiohttp",
        "import http.client",
        "from http import client",
        "import subprocess",
        "from importlib import import_module",
        "import importlib\nimportlib.import_module('x')",
        "open('x')",
        "from pathlib import Path\nPath('x').read_text()",
        "print('x')",
    ],
)
def test_a_reach_into_the_world_is_seen(text: str) -> None:
    assert ambient_world([snippet("registry/blobs.py", text)])


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("clock.py", "import time"),
        ("storage/disk.py", "import os\nos.open('x', 0)"),
        ("registry/blobs.py", "time = 1.0\ntime.hex()\nrandom = registry.clock.random()\nopen_uploads = 1"),
        ("registry/blobs.py", "from datetime import datetime\ndatetime.fromtimestamp(now)"),
        ("registry/blobs.py", "import asyncio\nasyncio.current_task()\nasyncio.wait([x])"),
        ("server/http.py", "from http import HTTPStatus"),
    ],
)
def test_what_comes_through_its_door_is_fine(path: str, text: str) -> None:
    assert ambient_world([snippet(path, text)]) == []


def test_what_is_too_long_is_seen() -> None:
    body = "    x = 1\n"
    assert too_long([snippet("a.py", "def f():\n" + body * (FUNCTION_LINES_MAX - 1))]) == []
    assert too_long([snippet("a.py", "def f():\n" + body * FUNCTION_LINES_MAX)])
    assert too_long([snippet("a.py", "class A:\n    async def f():\n" + f"    {body}" * FUNCTION_LINES_MAX)])
    assert too_long([snippet("a.py", "\n" * FILE_LINES_MAX)]) == []
    assert too_long([snippet("a.py", "\n" * (FILE_LINES_MAX + 1))])


def test_what_is_undocumented_is_seen() -> None:
    contract = '"""M."""\nclass A:\n    """C."""\n    @abstractmethod\n    def f(self):\n        '
    assert undocumented([snippet("src/homeport/a.py", "x = 1")])
    assert undocumented([snippet("src/homeport/a.py", '"""M."""\nclass A: ...')])
    assert undocumented([snippet("src/homeport/a.py", f"{contract}...")])
    assert undocumented([snippet("src/homeport/a.py", f'{contract}"""F."""')]) == []
    assert undocumented([snippet("src/homeport/a.py", '"""M."""\nclass _A: ...\ndef f(): ...')]) == []


def test_a_fact_that_could_wait_is_seen() -> None:
    assert awaiting_facts([snippet("a.py", "async def f(tx): ...")])
    assert awaiting_facts([snippet("a.py", "class A:\n    async def f(self, tx: Transaction): ...")])
    assert awaiting_facts([snippet("a.py", "def f(tx): ...\nasync def g(registry): ...")]) == []


def test_a_package_that_does_something_is_seen() -> None:
    assert busy_packages([snippet("a/__init__.py", '"""A."""\nx = 1')])
    assert busy_packages([snippet("a/__init__.py", "def f(): ...")])
    assert busy_packages([snippet("a/__init__.py", '"""A."""\nfrom b import c\n__all__ = ["c"]')]) == []
    assert busy_packages([snippet("a/b.py", "x = 1")]) == []


def test_a_name_of_the_standard_library_is_seen() -> None:
    assert shadows([snippet("secrets.py", "")])
    assert shadows([snippet("queue/worker.py", "")])
    assert shadows([snippet("server/token.py", ""), snippet("garbage.py", "")]) == []


# --- ARCHITECTURE.md --------------------------------------------------------------------------------------------


def named_symbols(text: str) -> list[tuple[str, str]]:
    """Every `file::symbol` in a text."""
    return re.findall(r"`([\w/]+\.py)::([\w.]+)`", text)


def missing_symbols(text: str, modules: Iterable[Module]) -> list[str]:
    """What a text names and is not there; and line numbers, which would be wrong tomorrow."""
    by_path = {module.path: module for module in modules}
    found = [
        f"{path}::{symbol}"
        for path, symbol in named_symbols(text)
        if path not in by_path or not by_path[path].defines(symbol)
    ]
    return found + re.findall(r"\w+\.py:\d+", text)


def test_architecture_md_names_only_what_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    assert len(named_symbols(text)) > 20
    assert missing_symbols(text, package()) == []


def test_a_symbol_that_is_not_there_is_seen() -> None:
    modules = [snippet("a.py", "X: int = 1\nY = 2\nclass A:\n    def f(self): ...\nasync def g():\n    def h(): ...")]
    for symbol in ("X", "Y", "A", "A.f", "g"):
        assert missing_symbols(f"see `a.py::{symbol}`", modules) == []
    for symbol in ("Z", "A.g", "f", "h", "B.f"):
        assert missing_symbols(f"see `a.py::{symbol}`", modules) == [f"a.py::{symbol}"]
    assert missing_symbols("see `b.py::X`", modules) == ["b.py::X"]
    assert missing_symbols("see a.py:12", modules) == ["a.py:12"]


# --- docs/format.md ---------------------------------------------------------------------------------------------


def undrawn(text: str, schema: str) -> list[str]:
    """Tables, columns, owners and views of a schema that a text does not have."""
    words = set(re.findall(r"[\w/.]+", text))
    owners = table_owners(schema)
    columns = re.findall(
        r"^    (\w+) (?:\$IDENTITY|\$SERIAL|\$BYTES|TEXT|BIGINT|INTEGER|DOUBLE PRECISION)", schema, re.MULTILINE
    )
    views = re.findall(r"CREATE VIEW (\w+)", schema)
    return sorted({*owners, *owners.values(), *columns, *views} - words)


def test_format_md_draws_every_table() -> None:
    assert undrawn((ROOT / "docs/format.md").read_text("utf-8"), SCHEMA) == []


def test_what_is_not_drawn_is_seen() -> None:
    schema = "-- owner: a/b.py\nCREATE TABLE t (\n    x TEXT NOT NULL,\n    y $BYTES\n);\nCREATE VIEW v AS"
    assert undrawn("a/b.py t x, y: `v`", schema) == []
    assert undrawn("", schema) == ["a/b.py", "t", "v", "x", "y"]
