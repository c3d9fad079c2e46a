"""Bar charts as SVG: medians, with a whisker from the least to the most. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10
from typing import Final

from bench.stats import Spread

_COLOURS: Final = {
    "tailrace": "#0b7285",
    "tailrace-blocking": "#3bc9db",
    "tailrace-coalesce20": "#66d9e8",
    "tailrace-ws": "#1098ad",
    "tailrace-pair": "#15aabf",
    "tailrace-processes": "#1098ad",
    "bare": "#868e96",
    "nchan": "#2b8a3e",
    "centrifugo": "#862e9c",
    "handwritten": "#e8590c",
}
_BAR: Final = 18
_LEFT: Final = 210
_WIDTH: Final = 860
_RIGHT: Final = 110


@dataclass(frozen=True, slots=True)
class Bar:
    group: str
    contender: str
    value: Spread
    remark: str = ""


def bars(title: str, unit: str, values: Sequence[Bar], *, digits: int = 1) -> str:
    """Horizontal bars in groups, on one linear scale from zero."""
    most = max((bar.value.max for bar in values), default=1.0) or 1.0
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    body = []
    y = 48
    group = None
    for bar in values:
        if bar.group != group:
            group = bar.group
            y += 10
            body.append(_text(12, y + 12, group, weight="bold"))
            y += 20
        colour = _COLOURS.get(bar.contender, "#495057")
        x = _LEFT
        width = bar.value.median * scale
        middle = y + _BAR / 2 - 1
        body += [
            _text(x - 8, y + 13, bar.contender, anchor="end"),
            f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{_BAR - 3}" fill="{colour}"/>',
        ]
        if bar.value.rounds > 1:
            low, high = x + bar.value.min * scale, x + bar.value.max * scale
            body.append(f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="#212529" stroke-width="1.5"/>')
        end = x + max(width, bar.value.max * scale) + 6
        body.append(_text(end, y + 13, f"{bar.value.median:.{digits}f} {bar.remark}".strip()))
        y += _BAR
    for step in _ticks(most):
        at = _LEFT + step * scale
        body.insert(
            0, f'<path d="M{at:.1f} 44V{y + 4}" stroke="#dee2e6"/>' + _text(at, 40, f"{step:g}", anchor="middle")
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 16}" width="{_WIDTH}" '
        f'height="{y + 16}" font-family="system-ui, sans-serif" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n'
        + _text(12, 22, f"{title} ({unit})", weight="bold", size=15)
        + "\n"
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" '
        f'font-size="{size}" fill="#212529">{escape(text)}</text>'
    )


def _ticks(most: float) -> list[float]:
    step = 10.0 ** floor(log10(most))
    if most / step < 2.5:
        step /= 2
    return [step * count for count in range(int(most / step) + 1)]
