"""The command line, in a folder of the test's own."""

from pathlib import Path

import pytest

from tests.cli.tools import CommandLine


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    folder = tmp_path / "here"
    folder.mkdir()
    return CommandLine(folder)
