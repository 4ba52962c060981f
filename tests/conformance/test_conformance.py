"""The OCI conformance program against a running server: not one FAIL, Skip or Error, and nothing switched off.

The program leaves out by itself what the version it is run for does not have; we check that it left out exactly that.
In every version it leaves out its "sparse" data too, since a registry may refuse manifests that name what it does not
hold. Ours does: that data has an image without one of its layers, which no setting here allows.
Its report of each run stays in build/conformance/, with every request and answer.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from tests.support.components import ROOT, need
from tests.support.processes import Config, Homeport

pytestmark = pytest.mark.conformance

SPARSE = frozenset({"Sparse Manifests"})
NOT_IN_1_1 = frozenset({"Blob upload cancel", "Manifest put with tag params", "Tag Param", "Tag Param sha512"})

EVERYTHING = ["pull", "push", "delete"]
LOGIN: Config = {"access": {"rules": [{"repositories": "conformance/**", "allow": {"writer": EVERYTHING}}]}}
ANONYMOUS: Config = {"access": {"anonymous": EVERYTHING}}


@dataclass(frozen=True)
class Run:
    """One run of the program: how the server is set up and what the program is told."""

    name: str
    version: str
    config: Config
    login: bool = False
    tls: bool = False
    disabled: frozenset[str] = SPARSE


RUNS = (
    Run("1.1-login", "1.1", LOGIN, login=True, disabled=SPARSE | NOT_IN_1_1),
    Run("1.1-anonymous", "1.1", ANONYMOUS, disabled=SPARSE | NOT_IN_1_1),
    Run("dev-login", "dev", LOGIN, login=True),
    Run("dev-anonymous", "dev", ANONYMOUS),
    Run("dev-login-tls", "dev", LOGIN, login=True, tls=True),
)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_conforms(run: Run, homeport: Homeport) -> None:
    program = need("conformance")
    homeport.start(run.config, tls=run.tls)
    results = ROOT / "build/conformance" / run.name
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)

    with (results / "program.log").open("wb") as log:
        subprocess.run(
            [program],
            cwd=results,
            env=environment(run, homeport, results),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=240,
            check=False,  # what it found is judged from its report
        )

    counts, complaints = read_junit(results / "junit.xml")
    assert not complaints, f"{len(complaints)} in {results}:\n" + "\n".join(complaints)
    assert counts["tests"] > 600, "the program did less than it does today"
    assert (counts["failures"], counts["errors"], counts["skipped"]) == (0, 0, 0)
    report = yaml.safe_load((results / "results.yaml").read_text())
    statuses: dict[str, str] = {**report["apis"], **report["data"]}
    assert {name for name, status in statuses.items() if status == "Disabled"} == run.disabled
    assert {status for status in statuses.values() if status != "Disabled"} == {"Pass"}
    assert " 500 " not in homeport.log
    homeport.stop()


def environment(run: Run, homeport: Homeport, results: Path) -> dict[str, str]:
    """What the program is told; nothing of the caller's OCI_ variables reaches it."""
    told = {name: value for name, value in os.environ.items() if not name.startswith("OCI_")}
    told |= {"OCI_REGISTRY": homeport.host, "OCI_VERSION": run.version, "OCI_RESULTS_DIR": str(results)}
    told |= {"OCI_TLS": "enabled", "SSL_CERT_FILE": str(homeport.ca)} if run.tls else {"OCI_TLS": "disabled"}
    if run.login:
        told |= {"OCI_USERNAME": "writer", "OCI_PASSWORD": homeport.passwords["writer"]}
    return told


def read_junit(file: Path) -> tuple[dict[str, int], list[str]]:
    """The program's own counts, and a line for each test that neither passed nor is switched off."""
    suites = ElementTree.parse(file).getroot()
    counts = {name: int(suites.attrib.get(name, 0)) for name in ("tests", "failures", "errors", "skipped", "disabled")}
    return counts, [complaint(case) for case in suites.iter("testcase") if not acceptable(case)]


def acceptable(case: ElementTree.Element) -> bool:
    return case.get("status") == "passed" or "disabled in the configuration" in (case.findtext("system-err") or "")


def complaint(case: ElementTree.Element) -> str:
    return f"{case.get('status')}: {case.get('name')}: {(case.findtext('system-out') or '').strip()[:400]}"
