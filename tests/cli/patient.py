"""`homeport` whose housekeeping begins and never ends by itself."""

import asyncio
import sys

from homeport.cli.main import run
from homeport.jobs.summary import Summary
from homeport.jobs.work import Run
from tests.cli.doors import doors


async def body(job: Run) -> Summary:
    await job.say("it began")
    await asyncio.Event().wait()
    raise AssertionError


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], doors(body)))
