"""DNS rebinding with everything real: network, the system's resolver, and a name server that changes its mind."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.client.rebinding import NAME, OURS, PUBLIC
from tests.support.components import ROOT, need, need_root


def test_what_was_checked_is_what_is_connected_to(tmp_path: Path) -> None:
    need_root()
    unshare, _ = need("unshare"), need("ip")
    ran = subprocess.run(
        [unshare, "--net", "--mount", sys.executable, "-m", "tests.client.rebinding", tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    named, *others = told["results"]
    assert named == "public", "it was looked up once, and what that gave was called"
    refusal = f"127.0.0.1 sends us to http://{NAME}/, inside our network; if that is right, add {NAME} to client.hosts"
    assert others == [f"Untrusted: {refusal}", "secret"], "whoever writes the name himself may go there"
    assert told["answers"] == [PUBLIC, OURS, OURS]
    assert told["inside"] == ["/"]
