"""What the demo shows while it runs: live on a terminal, plain lines everywhere else."""

from __future__ import annotations

import textwrap
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tailrace.cli.demo.story import Story
from tailrace.cli.demo.verdict import Verdict
from tailrace.cli.text.safe import one_line

SUMMARY_LINES: Final = 6
REPORT_SECONDS: Final = 1.0


@dataclass(slots=True)
class Scene:
    """Everything that is shown. ``viewers`` counts connected viewers by the name of their gateway."""

    story: Story
    viewers: dict[str, int]
    resumed: int = 0


class Screen(Protocol):
    def note(self, sentence: str) -> None:
        """Say something that stays."""

    def show(self, scene: Scene) -> None:
        """The scene has changed; may be called for every event."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LiveScreen:
    """Redrawn ten times a second by rich, from the scene as it then is."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._scene: Scene | None = None
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=10)

    def note(self, sentence: str) -> None:
        self._console.print(Text(f"• {one_line(sentence)}"))

    def show(self, scene: Scene) -> None:
        self._scene = scene

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def _render(self) -> RenderableType:
        scene = self._scene
        if scene is None:
            return Text("")
        return Group(_bars(scene.story), _summary(scene.story, self._console.width), _counters(scene))


def _bars(story: Story) -> Table:
    bars = Table.grid(padding=(0, 1))
    for step, share in story.steps.items():
        bars.add_row(Text(step), ProgressBar(total=1.0, completed=share, width=40), Text(f"{share:4.0%}"))
    return bars


def _summary(story: Story, width: int) -> Panel:
    # The end of the text, as it comes; about as many characters as the lines can hold.
    held = story.summary[-(SUMMARY_LINES - 1) * max(20, width - 6) :]
    return Panel(Text(held or "…"), title="summary", title_align="left", height=SUMMARY_LINES + 2)


def _counters(scene: Scene) -> Text:
    viewers = ", ".join(f"{count} on {name}" for name, count in scene.viewers.items())
    story = scene.story
    resumed = f" · {scene.resumed} resumed" if scene.resumed else ""
    return Text(f"{story.events} events · {story.delivered} deliveries · viewers: {viewers}{resumed}")


class PlainScreen:
    """Lines without control codes, at most one a second beside the notes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_report = 0.0
        self._shown = ""
        self._told_summary = False

    def note(self, sentence: str) -> None:
        self._print(f"* {one_line(sentence)}")

    def show(self, scene: Scene) -> None:
        if scene.story.status == "completed" and not self._told_summary:
            self._told_summary = True
            self._print(textwrap.fill(scene.story.summary, 100, initial_indent="  ", subsequent_indent="  "))
        now = time.monotonic()
        if now < self._next_report:
            return
        self._next_report = now + REPORT_SECONDS
        steps = ", ".join(f"{step} {share:.0%}" for step, share in scene.story.steps.items() if share > 0)
        line = f"  {_counters(scene).plain}" + (f" · {steps}" if steps else "")
        if line != self._shown:
            self._shown = line
            self._print(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def _print(self, line: str) -> None:
        print(line, file=self._console.file, flush=True)


def open_screen(console: Console) -> Screen:
    return LiveScreen(console) if console.is_terminal else PlainScreen(console)


def verdict_table(verdict: Verdict) -> Table:
    table = Table()
    table.add_column("every viewer against the log in Redis")
    table.add_column("", justify="right")
    for name, value in verdict.figures():
        table.add_row(name, value)
    return table
