"""The command line: `homeport VERB`, one module a family of verbs.

Holds: standard output has what was asked for and nothing else, standard error what is said beside it. An error is one
sentence with what to do, never a traceback unless `--debug` asks for it. A password is never an argument, since
arguments stand in the process list and in the shell's history.
"""
