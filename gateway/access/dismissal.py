"""Ending a viewer's stream before its time, and saying why."""

from __future__ import annotations

from tailrace.gateway.hub import Hub, Topic, Viewer
from tailrace.gateway.hub.viewer import Stage
from tailrace.gateway.presence.live_connections import ConnectionEnding


def dismiss(hub: Hub, topic: Topic, viewer: Viewer, ending: ConnectionEnding) -> None:
    """Close well, with a ``stream.error``: what was read so far is what a resume goes on from.

    A full socket is cut instead; who comes back then is told by the answer.
    """
    if viewer.stage is Stage.GONE:
        return
    held = viewer.held
    hub.leave(topic, viewer)
    if held:
        viewer.sink.cut()
        return
    payload = {"code": ending.code, "detail": ending.detail, "execution_id": topic.execution_id}
    viewer.sink.send_away(viewer.rendering.message(viewer.rendering.control("stream.error", payload)))
