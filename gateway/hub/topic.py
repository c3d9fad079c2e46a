"""One execution and its viewers here: the arithmetic of joining, lagging and catching up. Does no I/O, reads no clock.

Viewers whose cursor is the head stand in groups; a group wants the same bytes, so a batch is rendered once for it and
written to each member. A viewer whose socket is full leaves its group with its cursor and is passed over; when its
socket drains it reads on from the window, or, when that has moved on, from the log. Joining is the same: read on until
the cursor is the head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, Final, Protocol, cast

from tailrace.bus.model.continuity import Numbering, resume_point
from tailrace.bus.model.cursor import START, Cursor, just_before
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.filter import Filter
from tailrace.bus.model.lifecycle import Status
from tailrace.bus.model.reading import RawEntry, read_bare
from tailrace.gateway.hub.group import Timer, ViewerGroup
from tailrace.gateway.hub.viewer import PageFrames, Stage, Viewer
from tailrace.gateway.hub.window import CHUNK_BYTES, Window
from tailrace.gateway.wire.formats import Format, RenderBare

# So few entries are written as they come, past the window; it renders them only for those who read it later.
FEW: Final = 16
# The window spares many viewers of one run from reading the log each for itself. For one viewer it would only keep
# thousands of runs' entries alive, which the garbage collector then walks over.
RING_A_VIEWER: Final = 64
# A live viewer whose filter leaves entries out is told its cursor after so many of them, or at the next tick.
UNTOLD_ENTRIES: Final = 100
_EPOCHS: Final = count()


class Ports(Protocol):
    """What a topic asks of its hub; and where it counts events written to viewers, each viewer for itself."""

    deliveries: int

    def read_page(self, topic: Topic, viewer: Viewer) -> None:
        """Read the log after the viewer's position; answer with ``Topic.page``, never at once."""

    def later(self, delay_ms: int, call: Callable[[], None]) -> Timer: ...

    def now(self) -> float: ...

    def count(self, name: str, amount: int = 1) -> None: ...


class Topic:
    __slots__ = (
        "_closed",
        "_failure",
        "_groups",
        "_lone",
        "_passed",
        "_ports",
        "_spoke",
        "_told_ending",
        "_waiting",
        "ended",
        "epoch",
        "execution_id",
        "max_bytes",
        "max_entries",
        "status",
        "viewers",
        "window",
    )

    def __init__(
        self,
        execution_id: str,
        head: Cursor,
        ports: Ports,
        *,
        max_entries: int,
        max_bytes: int,
        status: Status = "unknown",
        ended: bool = False,
    ) -> None:
        self.execution_id = execution_id
        # As the state said when the newest viewer came, or how the execution ended: what its events say is less.
        self.status = status
        self.ended = ended
        # Another one after each disturbance: pages that were read before are perhaps of another log.
        self.epoch = next(_EPOCHS)
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.window = Window(execution_id, head)
        self.viewers: dict[Viewer, None] = {}
        self._ports = ports
        self._groups: dict[tuple[Format, Filter | None, int], ViewerGroup] = {}
        self._waiting: dict[Viewer, None] = {}
        self._failure: dict[str, Any] | None = None
        self._closed = False
        # Whether the last of what came was the last event, or whoever is at the head has had it before.
        self._told_ending = ended
        # The one viewer there is, when it is live and wants everything at once.
        self._lone: tuple[Viewer, RenderBare] | None = None
        # Where it stands, when that is further than the window and its group know; and whether anything was written.
        self._passed: Cursor | None = None
        self._spoke = False

    @property
    def executions(self) -> tuple[str, ...]:
        """What its viewers watch."""
        return (self.execution_id,)

    @property
    def head(self) -> Cursor:
        return self._passed or self.window.head

    # Viewers come and go.

    def join(self, viewer: Viewer, opening: bytes = b"") -> None:
        """Give a viewer what follows its cursor; ``opening`` stands before the first frame.

        One that comes too late is cut: nothing would ever be written to it here, and it can resume.
        """
        if self._closed:
            self._ports.count("late_viewers")
            viewer.stage = Stage.GONE
            viewer.sink.cut()
            return
        self._meet()
        self.viewers[viewer] = None
        payload = {
            "execution_id": self.execution_id,
            "cursor": str(viewer.position.cursor),
            "status": self.status,
            "head": str(self.head),
        }
        if self._tell(viewer, "stream.open", payload, opening):
            self._advance(viewer)

    def leave(self, viewer: Viewer) -> None:
        self._detach(viewer)
        self.viewers.pop(viewer, None)
        viewer.stage = Stage.GONE

    def close(self) -> None:
        """Serve nobody any more: viewers come back to what there is then."""
        self._closed = True
        for viewer in list(self.viewers):
            self.leave(viewer)
            viewer.sink.cut()

    def drained(self, viewer: Viewer) -> None:
        """The socket takes more."""
        if viewer.stage is Stage.ENDING:
            self.leave(viewer)
        elif viewer.stage is Stage.LAGGING:
            if viewer.ending:
                self._finish(viewer)
            else:
                self._advance(viewer)

    # News from the log.

    def bare(self, position: Numbering, raw: Sequence[RawEntry], limit_bytes: int) -> int:
        """Write what a batch begins with to the one viewer there is; give how many entries that was.

        The way of most events of most runs. What is left over comes as ``news``: all of it where there are several
        viewers, or one that is not live or wants something special, and whatever is not as our publishers write it.
        With thousands of runs, what costs is to fetch what each of them needs into the processor's cache; so this
        touches as little as can be, and leaves the window and the group to ``_settle``.
        """
        lone = self._lone
        if lone is None:
            return 0
        entries = read_bare(position, raw, limit_bytes, CHUNK_BYTES)
        if entries:
            self._passed = position.cursor
            viewer, render = lone
            self._ports.deliveries += len(entries)
            frames = render(self.execution_id, entries)
            if not frames:
                return len(entries)
            self._spoke = True
            if not viewer.sink.write(viewer.rendering.message(frames)):
                self._meet()
                (group,) = self._groups.values()
                self._take_out(group, [viewer])
                self._lag(viewer)
        return len(entries)

    def news(self, items: Sequence[Entry | Gap]) -> None:
        self._settle()
        if len(items) == 1 and isinstance(items[0], Entry):
            self._entries(items)
            return
        start = 0
        for index, item in enumerate(items):
            if isinstance(item, Gap):
                self._entries(items[start:index])
                start = index + 1
                following = items[start] if start < len(items) else None
                self._gap(item, following.cursor if isinstance(following, Entry) else None)
        self._entries(items[start:] if start else items)

    def end(self, status: Status) -> None:
        """The terminal entry was the last of the news, or there is nothing left to read."""
        self.ended = True
        self.status = status
        self._meet()
        for group in list(self._groups.values()):
            self._flush(group)
            for viewer in list(group.members):
                self._finish(viewer)
        for viewer in list(self._waiting):
            self._finish(viewer)

    def ended_at(self, terminal: Cursor | None) -> bool:
        """Whether it ended well, with this entry."""
        return self.ended and self._failure is None and terminal == self.head

    def fail(self, error: Exception) -> None:
        """Tell everybody that the log cannot be read, and end."""
        self._failure = {"code": "log_unreadable", "detail": str(error), "execution_id": self.execution_id}
        self.ended = True
        self._meet()
        for viewer in list(self.viewers):
            if not viewer.held:
                self._finish(viewer)

    def page(self, viewer: Viewer, page: PageFrames) -> None:
        """What ``Ports.read_page`` found."""
        if viewer.stage is not Stage.REPLAYING:
            return
        frames, shown = page.frames(viewer.rendering, viewer.wanted)
        self._ports.deliveries += shown
        self._ports.count("replayed_events", page.entries)
        if page.ended:
            viewer.ending = True
            viewer.told_ending = page.entries > 0
            self.status = page.status
            end = max(self.head, page.position.cursor)
            if not page.entries and viewer.position.cursor != end:
                # It asked from a place that the log has not: a reconnect must find out that it has ended.
                frames += viewer.rendering.skipped(self.execution_id, end)
        viewer.position = page.position
        viewer.proved = True
        ready = not frames or viewer.sink.write(viewer.rendering.message(frames))
        if not ready:
            self._lag(viewer)
        elif viewer.ending:
            self._finish(viewer)
        elif self._is_all(page):
            # Further than the tail has come, or at the end of a log that shrank: the next news decide.
            if self._caught_up(viewer):
                self._wait(viewer)
        else:
            self._advance(viewer)

    def _is_all(self, page: PageFrames) -> bool:
        """Whether a page led to a place that the window does not know, and the log has no more behind it for now.

        A page short of the head was read a while ago, for somebody else, unless it has nothing.
        """
        cursor = page.position.cursor
        if page.more or cursor == self.head or self.window.covers(cursor):
            return False
        return cursor > self.head or not page.entries

    # Time.

    def heartbeat(self, now: float, idle_seconds: float) -> None:
        """Once a second or so: show silent viewers that the connection lives, and filtered ones where they are."""
        self._settle()
        for group in tuple(self._groups.values()):
            if group.untold and group.members and (frames := self._skip(group)):
                self._write(group, frames)
            if not group.silent:
                group.silent = True
                group.silent_since = now
            elif group.rendering.heartbeat and group.members and now - group.silent_since >= idle_seconds:
                self._write(group, group.rendering.heartbeat)
        for viewer in [v for v in self._waiting if now - v.stuck_since >= idle_seconds]:
            viewer.stuck_since = now
            beat = viewer.rendering.heartbeat
            if beat and not viewer.sink.write(viewer.rendering.message(beat)):
                del self._waiting[viewer]
                self._lag(viewer)

    def beat(self, viewer: Viewer) -> bool:
        """Show one that waits for a page that we live. False when its socket is full: it asks again when it drains."""
        if viewer.stage is not Stage.REPLAYING or not viewer.rendering.heartbeat:
            return True
        if viewer.sink.write(viewer.rendering.message(viewer.rendering.heartbeat)):
            return True
        self._lag(viewer)
        return False

    def cut_stuck(self, now: float, timeout_seconds: float) -> int:
        """Cut viewers whose sockets have taken nothing for so long; their cursors let them resume."""
        stuck = [v for v in self.viewers if v.held and not v.moves(now) and now - v.stuck_since > timeout_seconds]
        for viewer in stuck:
            self.leave(viewer)
            viewer.sink.cut()
        return len(stuck)

    def send_away(self, viewer: Viewer, retry_ms: int) -> None:
        """Close well before the end, so that the viewer resumes elsewhere; a full socket is cut instead."""
        if viewer.stage is Stage.GONE:
            return
        held = viewer.held
        self.leave(viewer)
        if held:
            viewer.sink.cut()
        else:
            rendering = viewer.rendering
            viewer.sink.send_away(rendering.message(rendering.control("stream.reconnect", {"retry_ms": retry_ms})))

    # The arithmetic.

    def _settle(self) -> None:
        """Bring the window and the group to where their one viewer stands."""
        if self._passed is not None:
            cursor, self._passed = self._passed, None
            spoke, self._spoke = self._spoke, False
            self.window.pass_by(cursor)
            for group in self._groups.values():
                group.cursor = cursor
                group.silent = group.silent and not spoke

    def _meet(self) -> None:
        """Take no more past the window and the group: a viewer comes, goes or falls behind."""
        self._settle()
        self._lone = None

    def _advance(self, viewer: Viewer) -> None:
        """Bring a viewer on: to the head, to a full socket, or to the next page."""
        window = self.window
        while True:
            cursor = viewer.position.cursor
            if self._failure is not None:
                self._finish(viewer)
                return
            # From the very start, only the log knows whether there was something before.
            if not viewer.proved and (cursor == START or not window.covers(cursor)):
                break
            viewer.proved = True
            if cursor == window.head:
                self._go_live(viewer)
                return
            if not window.covers(cursor):
                break
            frames, shown, skipped, cursor = window.chunk(cursor, viewer.rendering, viewer.wanted)
            if skipped:
                frames += viewer.rendering.skipped(self.execution_id, cursor)
            self._ports.deliveries += shown
            viewer.position = Numbering.after(cursor)
            if frames and not viewer.sink.write(viewer.rendering.message(frames)):
                self._lag(viewer)
                return
        viewer.stage = Stage.REPLAYING
        self._ports.read_page(self, viewer)

    def _go_live(self, viewer: Viewer) -> None:
        if self.ended:
            self._finish(viewer)
            return
        if not self._caught_up(viewer):
            return
        group = self._groups.get(viewer.key)
        if group is not None and group.cursor != self.head:
            # The group is coalescing; brought to the head now, all its members stand at one place.
            self._flush(group)
            group = self._groups.get(viewer.key)
        if group is None:
            group = self._groups[viewer.key] = ViewerGroup(*viewer.key, self.head)
        if viewer.stage is Stage.LAGGING and viewer.wanted is not None:
            # It may have left before it was told how far its filter had come.
            group.untold = max(group.untold, 1)
        viewer.stage = Stage.LIVE
        group.members[viewer] = None
        if group.bare is not None and len(self.viewers) == 1 and len(self._groups) == 1:
            self._lone = (viewer, group.bare)

    def _entries(self, run: Sequence[Entry | Gap]) -> None:
        """Take a run without gaps."""
        if not run:
            return
        entries = cast("Sequence[Entry]", run)
        before = self.head
        self._told_ending = entries[-1].is_terminal
        size = self.window.append(entries, min(self.max_entries, RING_A_VIEWER * len(self.viewers)), self.max_bytes)
        # A copy: who finds its socket full, or the window moved on, may leave the last of its group.
        for group in tuple(self._groups.values()):
            if not group.members:
                # Its last member left with the connection of another group's.
                continue
            if not group.coalesce_ms:
                if group.cursor == before and group.wanted is None and len(entries) <= FEW and size <= CHUNK_BYTES:
                    rendering = group.rendering
                    frames = [rendering.entry(self.execution_id, entry) for entry in entries]
                    group.cursor = self.head
                    self._ports.deliveries += len(entries) * len(group.members)
                    self._few(group, frames)
                else:
                    self._flush(group)
            elif group.timer is None:
                group.timer = self._ports.later(group.coalesce_ms, partial(self._coalesced, group))
        if self._waiting:
            for viewer in list(self._waiting):
                if viewer.position.cursor <= self.head:
                    del self._waiting[viewer]
                    self._advance(viewer)

    def _few(self, group: ViewerGroup, frames: list[bytes]) -> None:
        """Write frames of a group that wants everything; a wire may still have shown nothing of an entry."""
        if frames[-1]:
            group.untold = 0
        else:
            hidden = next((index for index, each in enumerate(reversed(frames)) if each), None)
            group.untold = group.untold + len(frames) if hidden is None else hidden
            if group.untold >= UNTOLD_ENTRIES:
                frames.append(self._skip(group))
        if joined := b"".join(frames):
            self._write(group, joined)

    def _coalesced(self, group: ViewerGroup) -> None:
        group.timer = None
        self._flush(group)

    def _flush(self, group: ViewerGroup) -> None:
        """Bring a group to the head."""
        window = self.window
        while group.cursor != window.head:
            if not window.covers(group.cursor):
                # More came at once than the window holds: each reads on from the log, and is live no more.
                self._lone = None
                for viewer in self._take_out(group, list(group.members)):
                    self._advance(viewer)
                return
            frames, shown, skipped, cursor = window.chunk(group.cursor, group.rendering, group.wanted)
            self._ports.deliveries += shown * len(group.members)
            group.untold = skipped if shown else group.untold + skipped
            group.cursor = cursor
            if group.untold >= UNTOLD_ENTRIES:
                frames += self._skip(group)
            if frames:
                self._write(group, frames)

    def _skip(self, group: ViewerGroup) -> bytes:
        """Tell a group how far its filter has come without showing anything."""
        group.untold = 0
        return group.rendering.skipped(self.execution_id, group.cursor)

    def _write(self, group: ViewerGroup, frames: bytes) -> None:
        """Write what leads to the group's cursor."""
        message = group.rendering.message(frames)
        group.silent = False
        lagging: list[Viewer] | None = None
        for viewer in group.members:
            if not viewer.sink.write(message):
                if lagging is None:
                    lagging = []
                lagging.append(viewer)
        if lagging is not None:
            self._lone = None
            for viewer in self._take_out(group, lagging):
                self._lag(viewer)

    def _take_out(self, group: ViewerGroup, viewers: Sequence[Viewer]) -> Sequence[Viewer]:
        """Members go on from their group's cursor by themselves; without any, it is no group: events cost nothing."""
        for viewer in viewers:
            if group.members.pop(viewer, viewer) is None:
                viewer.position = Numbering.after(group.cursor)
        if not group.members and self._groups.get(group.key) is group:
            del self._groups[group.key]
            if group.timer is not None:
                group.timer.cancel()
        return viewers

    def _gap(self, gap: Gap, following: Cursor | None) -> None:
        """Tell live viewers, and let the others find out from their own cursors.

        Who was told stands just before what follows. No other viewer has that cursor, so none joins behind the gap
        without having been told.
        """
        head = resume_point(gap) if following is None else just_before(following)
        for group in list(self._groups.values()):
            self._flush(group)
            group.cursor = head
            group.untold = 0
            if group.members:
                payload = {"execution_id": self.execution_id, **gap.members()}
                self._write(group, group.rendering.control("stream.gap", payload))
        self.window.reset(head)
        self.epoch = next(_EPOCHS)
        live = {viewer for group in self._groups.values() for viewer in group.members}
        for viewer in self.viewers:
            if viewer not in live:
                viewer.proved = False
        for viewer in list(self._waiting):
            del self._waiting[viewer]
            self._advance(viewer)

    def _lag(self, viewer: Viewer) -> None:
        viewer.hold(Stage.LAGGING, self._ports.now())
        self._ports.count("viewer_lags")

    def _wait(self, viewer: Viewer) -> None:
        if self.ended:
            self._finish(viewer)
            return
        viewer.stage = Stage.WAITING
        viewer.stuck_since = self._ports.now()
        self._waiting[viewer] = None

    def _caught_up(self, viewer: Viewer) -> bool:
        """Say once that what comes from now on is live. False when the socket is full."""
        if viewer.caught_up:
            return True
        viewer.caught_up = True
        return self._tell(viewer, "stream.caught_up", {"execution_id": self.execution_id, "cursor": str(self.head)})

    def _tell(self, viewer: Viewer, name: str, payload: dict[str, Any], opening: bytes = b"") -> bool:
        frames = opening + viewer.rendering.control(name, payload)
        if not frames or viewer.sink.write(viewer.rendering.message(frames)):
            return True
        self._lag(viewer)
        return False

    def _detach(self, viewer: Viewer) -> None:
        """From now on nothing is written to it by the way."""
        self._meet()
        self._waiting.pop(viewer, None)
        if (group := self._groups.get(viewer.key)) is not None:
            self._take_out(group, [viewer])

    def _finish(self, viewer: Viewer) -> None:
        self._detach(viewer)
        if self._failure is not None:
            last = viewer.rendering.control("stream.error", self._failure)
        else:
            told = viewer.told_ending if viewer.ending else self._told_ending
            last = viewer.rendering.end(self.execution_id, viewer.position.cursor, self.status, told=told)
        if viewer.sink.finish(viewer.rendering.message(last)):
            self.leave(viewer)
        else:
            # Not gone before that is out: until then it can be cut.
            viewer.hold(Stage.ENDING, self._ports.now())
