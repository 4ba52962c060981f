"""What tests ask of source text: modules as syntax trees, names as what they stand for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "homeport"


@dataclass(frozen=True)
class Module:
    """One Python file. `path` is below `src/homeport` (`registry/blobs.py`), or below the repository for others."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def name(self) -> str:
        """As it is imported: `homeport.registry.blobs`."""
        parts = self.path.removesuffix(".py").removesuffix("__init__").strip("/").split("/")
        return ".".join([PACKAGE, *(part for part in parts if part)])

    @property
    def unit(self) -> str:
        """What the layers are made of: the module or package directly below `homeport`; empty for `__init__.py`."""
        return self.path.split("/", maxsplit=1)[0].removesuffix(".py").removesuffix("__init__")

    @cached_property
    def names(self) -> dict[str, str]:
        """What each imported name stands for, in full."""
        found = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        return found

    def full_name(self, node: ast.expr) -> str | None:
        """`os.environ` for the expression `os.environ`, whatever `os` is called here; None for what is not a name."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            base = self.full_name(node.value)
            return None if base is None else f"{base}.{node.attr}"
        return None

    def imports(self) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
        """Each import statement with each full name that it asks for."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((node, f"{'.' * node.level}{node.module or ''}.{alias.name}") for alias in node.names)

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def strings(self) -> Iterator[ast.Constant]:
        """Every text in it but the docstrings."""
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                yield node

    def defines(self, symbol: str) -> bool:
        """Whether `symbol` (`function`, `NAME`, `Class` or `Class.method`) is defined at its top level."""
        first, _, method = symbol.partition(".")
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and symbol == node.name:
                return True
            if isinstance(node, ast.ClassDef) and first == node.name:
                members = {n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
                return not method or method in members
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == symbol for target in targets):
                return True
        return False


def package() -> list[Module]:
    """Every module of `src/homeport`."""
    folder = ROOT / "src" / PACKAGE
    return [Module(str(file.relative_to(folder)), file.read_text("utf-8")) for file in sorted(folder.rglob("*.py"))]


def everything() -> list[Module]:
    """Every Python file that is ours: the package, the tests, the benchmark, the scripts."""
    files = [file for top in ("src", "tests", "bench", "scripts") for file in sorted((ROOT / top).rglob("*.py"))]
    return [Module(str(file.relative_to(ROOT)), file.read_text("utf-8")) for file in files]
