"""The composition root: the only place where objects are built and loops are started. Nobody but `__main__` imports it.

Holds: what is built here is taken down here, in the opposite order, whatever happened in between. A process has one or
both of two roles: *serve* answers requests; *work* runs jobs and schedules and tells people. `homeport up` does both.

Which of its modules is imported is up to who asks: `core` has what nearly every verb needs, and starts fast.
"""
