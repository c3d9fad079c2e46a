"""The viewers of the demo, and what they see together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import httpx

from tailrace.cli.client.frame import Received
from tailrace.cli.client.watch import Connected, Disconnected, Item
from tailrace.cli.demo.screen import Scene, Screen
from tailrace.cli.demo.viewer import DemoViewer


class Viewers:
    """``names`` are the gateways' by URL.

    ``halfway`` is set when a viewer has seen half of the work and all are connected, ``resumed_at`` (monotonic seconds)
    when all who were on a gateway that died are on another.
    """

    def __init__(
        self, client: httpx.AsyncClient, execution_id: str, scene: Scene, screen: Screen, names: dict[str, str]
    ) -> None:
        self.viewers: list[DemoViewer] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.halfway = asyncio.Event()
        self.resumed_at: float | None = None
        self.last_news = time.monotonic()
        self._client = client
        self._execution_id = execution_id
        self._scene = scene
        self._screen = screen
        self._names = names
        self._to_resume: set[DemoViewer] = set()

    def join(self, gateways: Sequence[str]) -> None:
        """Let one more watch, on the first of the gateways as long as that lives."""
        viewer = DemoViewer(self._client, gateways, self._execution_id, self._on_item)
        self.viewers.append(viewer)
        self.tasks.add(asyncio.create_task(viewer.run(), name=f"viewer:{len(self.viewers)}"))

    def on(self, gateway: str) -> int:
        return sum(viewer.gateway == gateway for viewer in self.viewers)

    def expect_resumes(self, gateway: str) -> int:
        """The gateway is dead: all who were on it must turn up elsewhere. Returns how many these are."""
        self._to_resume = {viewer for viewer in self.viewers if viewer.gateway == gateway}
        return len(self._to_resume)

    async def ending(self) -> None:
        """Wait until every viewer has had the ending. Raises GatewayRequestError."""
        while pending := {task for task in self.tasks if not task.done()}:
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in self.tasks:
            task.result()

    async def leave(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def _on_item(self, viewer: DemoViewer, item: Item) -> None:
        self.last_news = time.monotonic()
        story = self._scene.story
        match item:
            case Received():
                story.take(item)
            case Connected():
                self._scene.resumed += item.resumed
                self._to_resume.discard(viewer)
                if item.resumed and not self._to_resume and self.resumed_at is None:
                    self.resumed_at = time.monotonic()
            case Disconnected():
                viewer.gateway = None
        # A short document may be half done before everybody is there: who is not watching cannot resume.
        if story.share >= 0.5 and all(each.gateway for each in self.viewers):
            self.halfway.set()
        self._scene.viewers = {name: self.on(url) for url, name in self._names.items()}
        self._screen.show(self._scene)
