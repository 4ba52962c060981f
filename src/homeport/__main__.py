"""The command `homeport`: the command line, with the program that `app` builds behind it."""

from __future__ import annotations

import signal
import sys

from homeport import app
from homeport.cli.context import Doors
from homeport.cli.main import run

#: What the command line may ask the composition root for.
DOORS = Doors(
    run=app.run,
    open_registry=app.open_registry,
    open_services=app.open_services,
    open_outgoing=app.open_outgoing,
    problems=app.problems,
)


def main() -> int:
    """Run with the words of this process's command line; the exit code."""
    # Killed, we would leave behind the programs that we run; left, everything is taken down as always.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return run(sys.argv[1:], DOORS)


if __name__ == "__main__":
    sys.exit(main())
