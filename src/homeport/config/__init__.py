"""The settings: one frozen, typed tree, read once, from a YAML file and the environment.

Holds: a setting has one name, one default and one sentence of help, all in `settings.py`; its environment variable, the
JSON Schema, the commented file of `homeport init` and the reference page are made from that. What nobody knows is
refused with its line. A secret is a reference, never a value. No other module reads the environment.

The package itself has nothing: whoever needs no settings, such as a verb beside a server that runs, imports `errors`,
`environment` and `place`, and is over before the tree would be built.
"""
