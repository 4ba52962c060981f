"""Why a figure could not be had."""


class BenchError(Exception):
    """What was to be measured did not happen; the message says what did."""


class ToolMissingError(BenchError):
    """A program is not there and cannot be made here."""


class ServerFailedError(BenchError):
    """A server did not start, or ended."""


class UnexpectedAnswerError(BenchError):
    """A server did not do the work that was to be measured."""
