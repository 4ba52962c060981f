"""The documents are complete and say what the program does; every path and symbol that they name is there."""

import ast
import re
from pathlib import Path

import pytest

from homeport import kinds
from homeport.cli.main import build
from homeport.config.loading import load
from homeport.config.settings import Settings
from homeport.config.tree import settings
from scripts.generate_docs import FOLDER, pages, wire_errors

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

_SYMBOL = re.compile(r"`([\w/.]+\.py)::([\w.]+)`")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_COMMAND = re.compile(
    r"^\s*homeport ((?:user|token|repo|tag|trash|config|cleanup|mirror|quota|jobs|notify|secret) [\w-]+|[a-z-]+)",
    re.MULTILINE,
)
_SETTING_VARIABLE = re.compile(r"HOMEPORT_[A-Z_]+")


@pytest.mark.parametrize("name", sorted(pages()))
def test_generated_pages_are_up_to_date(name: str) -> None:
    assert (FOLDER / name).read_text() == pages()[name], "stale: run `make docs`"


def test_every_setting_is_documented() -> None:
    page = (FOLDER / "settings.md").read_text()
    for setting in settings():
        assert f"| `{setting.name}` |" in page
        assert setting.help in page


def test_every_error_is_documented() -> None:
    page = (FOLDER / "errors.md").read_text()
    for error in wire_errors():
        assert f"| `{error.code}` | {error.status} | {error('').message} |" in page


def test_every_event_is_documented() -> None:
    page = (FOLDER / "events.md").read_text()
    for kind, sentence in kinds.EVENTS.items():
        assert f"| `{kind}` | {sentence} |" in page


def test_every_verb_and_its_options_are_documented() -> None:
    page = (FOLDER / "cli.md").read_text()
    for verb in build()[1].all:
        described = page.partition(f"## `homeport {verb.name}")[2].partition("\n## ")[0]
        for option in re.findall(r"--[a-z-]+", verb.parser.format_usage()):
            assert option in described, verb.name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_symbols_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    for target in _LINK.findall(text):
        assert (document.parent / target).exists(), target
    for file, symbol in _SYMBOL.findall(text):
        assert symbol in _symbols(file), f"{file}::{symbol}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_variables_in_documents_are_ours(document: Path) -> None:
    text = document.read_text()
    verbs = {verb.name for verb in build()[1].all}
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for command in _COMMAND.findall(block):
            assert command in verbs
    variables = {setting.variable for setting in settings()}
    for variable in _SETTING_VARIABLE.findall(text):
        assert variable in variables or variable == "HOMEPORT_"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_configurations_in_documents_are_valid(document: Path, tmp_path: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", document.read_text(), re.DOTALL):
        if re.search(r"(?m)^(\w+):", block)[1] in Settings.model_fields:  # type: ignore[index]
            (tmp_path / "homeport.yaml").write_text(block)
            load(tmp_path / "homeport.yaml", {})


def test_architecture_names_symbols() -> None:
    assert len(_SYMBOL.findall((ROOT / "ARCHITECTURE.md").read_text())) >= 10


def test_the_glossary_names_files_that_are_there() -> None:
    named = re.findall(r"`([a-z]+(?:/[a-z]+)*\.py)`", (ROOT / "docs/glossary.md").read_text())
    assert len(named) >= 11
    for file in named:
        assert (ROOT / "src/homeport" / file).is_file(), file


def _symbols(file: str) -> set[str]:
    """The functions, classes, methods and module variables of a file, named as in `file.py::Class.method`."""
    path = next((path for base in ("", "src", "src/homeport") if (path := ROOT / base / file).is_file()), None)
    assert path is not None, file
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{method.name}" for method in methods}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found
