"""The composition root: the only place where objects are built and loops are started. Nobody but `__main__` imports it.

Holds: what is built here is taken down here, in the opposite order, whatever happened in between. A process has one or
both of two roles: *serve* answers requests; *work* runs jobs and schedules and tells people. `homeport up` does both.
"""

from homeport.app.access import problems
from homeport.app.composition import open_outgoing, open_registry, open_services
from homeport.app.running import run

__all__ = ["open_outgoing", "open_registry", "open_services", "problems", "run"]
