"""The log of a process: lines of text for people, or JSON objects for log collectors."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final, Literal

import orjson

from tailrace.bus.model.codec import ts_of

LogFormat = Literal["text", "json"]

# Which request, of which execution: set where one begins, so that whatever is logged on its behalf carries it.
log_context: ContextVar[Mapping[str, str]] = ContextVar("log_context", default={})  # noqa: B039 - never changed in place

_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# How sentences about an execution begin, everywhere.
_EXECUTION: Final = re.compile(r"execution ([A-Za-z0-9][A-Za-z0-9_-]{0,127})\b", re.ASCII)
# C0, DEL, C1, and what some readers take for the end of a line.
_CONTROLS: Final = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
_ESCAPED: Final = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _CONTROLS}  # noqa: PLR2004
_ESCAPED_BUT_LINES: Final = {code: text for code, text in _ESCAPED.items() if chr(code) not in "\t\n"}
_ESCAPED_IN_JSON: Final = {code: f"\\u{code:04x}" for code in _CONTROLS if code >= 0x7F}  # noqa: PLR2004 - DEL
# Header values and query parameters that open doors; they are removed from every record.
_SECRET: Final = re.compile(r"(?i)(bearer\s+|ticket=|token=|authorization['\"]?[:=]\s*['\"]?)[A-Za-z0-9._~+/=-]{8,}")


def set_up(log_format: LogFormat = "text", *, level: int = logging.INFO) -> None:
    """Log to stderr, one line a record. For programs; a library that is imported sets nothing up."""
    target = logging.StreamHandler(sys.stderr)
    target.setFormatter(JsonLines() if log_format == "json" else TextLines(_TEXT))
    logging.basicConfig(level=level, handlers=[target])


class TextLines(logging.Formatter):
    """One line a record, and a traceback behind it where there is one.

    Control characters are escaped: what a client sends must not end a line, nor command a terminal.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return super().formatMessage(record).translate(_ESCAPED)

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record).translate(_ESCAPED_BUT_LINES))


class JsonLines(logging.Formatter):
    """``ts``, ``level``, ``logger`` and ``message``; ``execution_id`` and ``request_id`` where they are known."""

    def format(self, record: logging.LogRecord) -> str:
        message = without_secrets(_encodable(record.getMessage()))
        line: dict[str, Any] = {
            "ts": ts_of(int(record.created * 1000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
            **log_context.get(),
        }
        if "execution_id" not in line and (found := _EXECUTION.search(message)) is not None:
            line["execution_id"] = found[1]
        if record.exc_info:
            line["traceback"] = without_secrets(_encodable("".join(traceback.format_exception(*record.exc_info))))
        # JSON itself escapes the controls of ASCII only.
        return orjson.dumps(line, default=str).decode().translate(_ESCAPED_IN_JSON)


def _encodable(text: str) -> str:
    r"""Half a surrogate pair, of a file name that is not UTF-8 say, has no JSON form: it is written as ``\udce9``."""
    return text.encode("utf-8", "backslashreplace").decode()


def without_secrets(text: str) -> str:
    """Blot out what looks like a token, should a library have put one into its message."""
    return _SECRET.sub(r"\1[hidden]", text)
