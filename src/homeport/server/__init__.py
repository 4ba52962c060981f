"""The core, spoken over HTTP."""
