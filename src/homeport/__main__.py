"""The command `homeport`: the command line, with the program that `app` builds behind it."""

from __future__ import annotations

import sys

from homeport import app
from homeport.cli.context import Doors
from homeport.cli.main import run


def main() -> int:
    """Run with the words of this process's command line; the exit code."""
    return run(sys.argv[1:], Doors(app.serve, app.open_registry, app.login_settings))


if __name__ == "__main__":
    sys.exit(main())
