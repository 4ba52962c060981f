"""A process that mirrors one repository into `app`, to be killed: FOLDER SOURCE."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.mirror.mirroring import Mirroring


async def main(folder: Path, source: str) -> None:
    mirroring = Mirroring(folder)
    await mirroring.connect()
    mirroring.configure({"source": source, "target": "app"})
    await mirroring.run()
    await mirroring.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
