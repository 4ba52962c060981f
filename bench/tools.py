"""The programs that the benchmark runs: where each comes from. Nothing is installed on the machine."""

import functools
import subprocess
from pathlib import Path

from bench.errors import ToolMissingError

REPOSITORY = Path(__file__).parent.parent
BUILD = REPOSITORY / "build" / "bench"


def _run(arguments: list[str | Path], folder: Path) -> str:
    done = subprocess.run(arguments, cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ToolMissingError(f"{' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout


@functools.cache
def tool(name: str) -> str:
    """Where a program is that scripts/test-setup made ready, or that the machine has."""
    return _run([REPOSITORY / "scripts" / "tool", name], REPOSITORY).strip()


@functools.cache
def loadgen() -> str:
    """Our load generator and null server, built from bench/loadgen; it needs Go's standard library only."""
    BUILD.mkdir(parents=True, exist_ok=True)
    binary = BUILD / "loadgen"
    _run([tool("go"), "build", "-trimpath", "-o", binary, "."], REPOSITORY / "bench" / "loadgen")
    return str(binary)
