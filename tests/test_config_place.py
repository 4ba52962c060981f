"""Where the data folder is can be told without the settings, and is never told otherwise than they would."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.config.errors import ConfigError
from homeport.config.loading import load
from homeport.config.place import data_folder, stamp

VALUES = ("", "/srv/x", "relative/x", "~/x", "a\0b", "3", "null", "[1]", "{a: 1}", "'3'", "''")


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        (None, {}, "homeport-data"),
        (None, {"HOME": "/root", "HOMEPORT_DATA": ""}, "homeport-data"),
        ("", {}, None),
        ("dta: /srv/registry", {}, None),  # A slip, of which the settings tell.
        (None, {"HOMEPORT_DTA": "/srv/registry"}, None),
        ("data: /srv/registry", {"HOMEPORT_DTA": "/elsewhere"}, None),
        ("data: /srv/registry", {"HOMEPORT_DATA": "/elsewhere", "HOMEPORT_LOG_LEVEL": "info"}, "/elsewhere"),
        ("data: /srv/registry", {}, "/srv/registry"),
        ("data: /srv/registry", {"HOMEPORT_DATA": "/elsewhere"}, "/elsewhere"),
        ("data: /srv/registry", {"HOMEPORT_DATA": ""}, "/srv/registry"),
        (None, {"HOMEPORT_DATA": "/elsewhere"}, "/elsewhere"),
        (None, {"HOMEPORT_DATA_FILE": "/run/where"}, None),
        (None, {"HOMEPORT_DATA": "~/x"}, None),
        ("data: ~/x", {}, None),
        ("data: [1]", {}, None),
        ("data: ''", {}, None),
        ("[1]", {}, None),
        ("data: {", {}, None),
    ],
)
def test_the_folder(tmp_path: Path, text: str | None, environ: dict[str, str], expected: str | None) -> None:
    file = None
    if text is not None:
        file = tmp_path / "homeport.yaml"
        file.write_text(text)
    assert data_folder(file, environ) == (None if expected is None else Path(expected))


def test_of_a_file_that_is_not_there_the_settings_tell(tmp_path: Path) -> None:
    assert data_folder(tmp_path / "none.yaml", {}) is None


def test_a_pipe_is_left_for_the_settings(tmp_path: Path) -> None:
    """It can be read once."""
    reading, writing = os.pipe()
    os.write(writing, b"data: /srv/registry")
    os.close(writing)
    assert data_folder(Path(f"/dev/fd/{reading}"), {"HOMEPORT_DATA": "/elsewhere"}) is None
    assert os.read(reading, 100) == b"data: /srv/registry"
    os.close(reading)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([*VALUES, None]), st.sampled_from([*(each for each in VALUES if "\0" not in each), None]))
def test_it_is_never_another_one_than_that_of_the_settings(
    tmp_path: Path, in_file: str | None, in_environment: str | None
) -> None:
    file = tmp_path / "homeport.yaml"
    file.write_text("" if in_file is None else f"data: {in_file}")
    environ = {} if in_environment is None else {"HOMEPORT_DATA": in_environment}
    found = data_folder(file, environ)
    try:
        meant = load(file, environ).data
    except ConfigError:
        assert found is None or environ.get("HOMEPORT_DATA")
    else:
        assert found in (meant, None)


def test_a_file_that_was_written_anew_has_another_stamp(tmp_path: Path) -> None:
    file = tmp_path / "homeport.yaml"
    assert stamp(None) == stamp(None) != stamp(file)
    file.write_text("data: x")
    before = stamp(file)
    assert before == stamp(file)
    os.utime(file, ns=(0, 0))
    assert stamp(file) != before
    file.write_text("data: xy")
    os.utime(file, ns=(0, 0))
    assert stamp(file) not in (before, "0")
