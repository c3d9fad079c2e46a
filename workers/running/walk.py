"""The nodes of a pipeline, one after the other and side by side."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from tailrace.workers.definition.group import Done, NodeGroup
from tailrace.workers.definition.outputs import Outputs
from tailrace.workers.definition.pipeline import Node, Parallel, Sequential, Step
from tailrace.workers.running.step_output import shown
from tailrace.workers.running.step_run import StepRun


@dataclass(frozen=True, slots=True)
class Walk:
    steps: StepRun

    async def one_by_one(self, nodes: tuple[Node, ...], outputs: Outputs, group: NodeGroup | None) -> Done:
        seen = dict(outputs)
        gave: dict[str, Any] = {}
        last = Done(skipped=True)
        for index, node in enumerate(nodes):
            try:
                done = await self._node(node, seen, group)
            except asyncio.CancelledError:
                await self._tell_unbegun(nodes[index + 1 :], group)
                raise
            seen |= done.outputs
            gave |= done.outputs
            last = last if done.skipped and last.name else done
        return Done(last.name, gave, last.output, last.shown, last.size_bytes, last.skipped)

    async def _node(self, node: Node, outputs: Outputs, group: NodeGroup | None) -> Done:
        match node:
            case Step():
                return await self.steps.done(node, outputs, group)
            case Sequential():
                return await self.one_by_one(node.nodes, outputs, group)
            case Parallel():
                return await self._side_by_side(node, outputs, group)

    async def _side_by_side(self, parallel: Parallel, outputs: Outputs, parent: NodeGroup | None) -> Done:
        group = NodeGroup(parent)
        try:
            async with asyncio.TaskGroup() as tasks:
                branches = [tasks.create_task(self._node(node, outputs, group)) for node in parallel.nodes]
        except BaseExceptionGroup as errors:
            # The first is why the others were cancelled.
            raise errors.exceptions[0] from None
        done = [branch.result() for branch in branches]
        output = {each.name: each.output for each in done}
        size = sum(each.size_bytes for each in done)
        return Done(
            name=" + ".join(output),
            outputs={name: output for each in done for name, output in each.outputs.items()},
            output=output,
            shown=shown(" + ".join(output), output, size),
            size_bytes=size,
            skipped=all(each.skipped for each in done),
        )

    async def _tell_unbegun(self, nodes: tuple[Node, ...], group: NodeGroup | None) -> None:
        told = group.told if group is not None else None
        if told is not None:
            for step in [step for node in nodes for step in node.steps]:
                await self.steps.skipped(step, told)
