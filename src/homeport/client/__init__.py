"""Homeport as a client: of other registries, of whatever else it calls over HTTP, and of programs that it runs.

The only way out: `transport` decides where a call may go, `programs` what a program is given and that it ends.
"""
