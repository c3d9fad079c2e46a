"""What the command line itself can fail with.

CliError            one sentence for the user, and the exit code
├── GatewayError        no gateway answers, or it refused
└── ChildError          a process that the command started did not come up, or died
SignalledError          somebody ended the command; nothing to be said
"""

from __future__ import annotations

import signal

from tailrace.cli.exit_codes import ExitCode


class CliError(Exception):
    """Ends the command with one line on stderr; the message says what is wrong and what cures it."""

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code


class GatewayError(CliError):
    def __init__(self, message: str, code: ExitCode = ExitCode.GATEWAY) -> None:
        super().__init__(message, code)


class SignalledError(Exception):
    def __init__(self, order: signal.Signals) -> None:
        super().__init__(order.name)
        self.order = order
