"""What docs/how-to/access.md says is so."""

import re
from pathlib import Path

import pytest

from homeport.app.access import login_settings
from homeport.auth.actors import ANONYMOUS, Actor, Right
from homeport.auth.permissions import Policy, rights
from homeport.config.loading import load
from homeport.oci.patterns import matches

PAGE = (Path(__file__).parents[2] / "docs/how-to/access.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def policy(example: str, folder: Path) -> Policy:
    file = folder / "homeport.yaml"
    file.write_text(example.replace("file:/run/secrets", f"file:{folder}"))
    (folder / "ci").write_text("a secret\n")
    return login_settings(load(file, {}), lambda _: "another secret").policy


def table(heading: str) -> list[list[str]]:
    rows = [line for line in PAGE[PAGE.index(heading) :].splitlines() if line.startswith("|")]
    end = next(index for index, line in enumerate(PAGE[PAGE.index(heading) :].splitlines()) if not line.startswith("|"))
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[:end] if not row.startswith("|---")]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_configuration(example: str, tmp_path: Path) -> None:
    policy(example, tmp_path)


def test_who_may_do_what(tmp_path: Path) -> None:
    example = policy(next(example for example in EXAMPLES if "payroll" in example), tmp_path)
    header, *rows = table("| who |")
    repositories = [cell.strip("`") for cell in header[1:]]
    assert len(rows) == 5
    for who, *cells in rows:
        name = who.split(" ")[0]
        actor = ANONYMOUS if name == "not" else Actor("user", name, example.groups_of(name))
        for repository, cell in zip(repositories, cells, strict=True):
            expected = set() if cell == "nothing" else {Right(word) for word in cell.split(", ")}
            assert rights(example, actor, repository) == expected, (who, repository)


def test_patterns() -> None:
    _, *rows = table("| pattern |")
    assert len(rows) == 6
    for pattern, *cells in rows:
        for cell, expected in zip(cells, (True, False), strict=True):
            for name in re.findall(r"`([^`]+)`", cell):
                assert matches(pattern.strip("`"), name) is expected, (pattern, name)
