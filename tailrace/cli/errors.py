"""Why a command ends early.

CliError                one sentence for the user, and the exit code
├── GatewayRequestError     no gateway answers, or it refused the request
└── ChildError              a process that the command started did not start, or died (processes/children.py)
SignalledError          a signal ended the command; nothing is printed

Not below TailraceError: no program catches them, and importing the bus would make ``tailrace --help`` slow.
"""

from __future__ import annotations

import signal

from tailrace.cli.exit_codes import ExitCode


class CliError(Exception):
    """Ends the command with one line on stderr; the message says what is wrong and what cures it."""

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code


class GatewayRequestError(CliError):
    def __init__(self, message: str, code: ExitCode = ExitCode.GATEWAY) -> None:
        super().__init__(message, code)


class SignalledError(Exception):
    def __init__(self, order: signal.Signals) -> None:
        super().__init__(order.name)
        self.order = order
