"""Where secrets come from: the environment, files, a Vaultwarden or Bitwarden server, the official program `bw`.

Holds: a value is in memory only, never in a log, an error or a `repr`; nothing is written to disk. A vault that cannot
be reached stops nobody: the last value serves on.
"""
