"""Homeport as a client of other registries, and of whatever else it calls over HTTP.

Nothing that starts with the server imports this: it brings aiohttp into memory, which many servers never need.
"""
