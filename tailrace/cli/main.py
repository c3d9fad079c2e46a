"""The entry point: runs one command and turns whatever goes wrong into one line and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tailrace.cli.exit_codes import ExitCode
from tailrace.cli.processes.parent_pipe import end_with_parent
from tailrace.cli.text.safe import paragraph

# What the system says of an output that takes no more, and never of a file without its name.
_UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


def main() -> None:
    _stop_at_once(serving=_serving(sys.argv[1:]))
    end_with_parent()
    sys.exit(run(sys.argv[1:]))


def _serving(arguments: Sequence[str]) -> bool:
    """Whether it lasts until it is told to stop, which is then no failure."""
    return arguments[:1] in (["worker"], ["gateway"])


def _stop_at_once(*, serving: bool) -> None:
    """Until a command is under way there is nothing to put in order, nor to print a traceback about.

    This stands before the slow imports. A worker and a gateway replace it once there is something to drain.
    """
    if not serving:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        return
    for order in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if order != signal.SIGHUP or signal.getsignal(order) != signal.SIG_IGN:
            signal.signal(order, lambda *_: os._exit(ExitCode.OK))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. Never raises an Exception."""
    import typer  # noqa: PLC0415 - Ctrl-C during the imports is handled above

    from tailrace.cli.app import app  # noqa: PLC0415 - as above
    from tailrace.cli.errors import SignalledError  # noqa: PLC0415 - as above

    _fill_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # What the terminal cannot show must not end the command.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if not _serving(arguments):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = app(args=list(arguments), prog_name="tailrace", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        return _complain(ExitCode.USAGE, f"{_without_period(error.format_message())}; see {_help_for(error)}")
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except SignalledError as end:
        return 128 + end.order
    except BrokenPipeError:
        _give_up_output()
        return ExitCode.RUN_FAILED
    except Exception as error:
        # Never a traceback, unless it is asked for.
        if os.environ.get("TAILRACE_DEBUG"):
            raise
        from tailrace.cli.explanation import explain  # noqa: PLC0415 - imports much

        if isinstance(error, OSError) and error.filename is None and error.errno in _UNWRITABLE:
            _give_up_output()
            return _complain(ExitCode.RUN_FAILED, f"standard output cannot be written: {error.strerror}")
        return _complain(*explain(error))
    return code if isinstance(code, int) else ExitCode.OK


def _fill_closed_streams() -> None:
    """Standard streams that the caller closed lead nowhere, rather than to whatever is opened next."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - as long as we live


def _give_up_output() -> None:
    """The output is gone; the interpreter must not stumble over it again while it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(code: ExitCode, message: str) -> int:
    print(f"tailrace: {paragraph(message)}", file=sys.stderr)
    return code


def _help_for(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"'{context.command_path if context else 'tailrace'} --help'"


def _without_period(sentence: str) -> str:
    return sentence.strip().removesuffix(".")
