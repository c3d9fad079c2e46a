"""The publisher process: offers events at a given rate, whether or not they are taken (open loop).

Orders are lines of JSON on stdin, answers lines of JSON on stdout:

    {"op": "open", "kind", "port", "executions": [..], "options": {}}
    {"op": "fill", "each": n}                  n events to every run, as fast as they are taken
    {"op": "pace", "rate": per second, "seconds"}   round robin over the runs
    {"op": "sent"}                             events offered so far, by run
    {"op": "cursors"}                          the id of the last one, by run, where the publisher gives the ids

Every answer to `fill` and `pace` has `offered`, `held_back` (events not offered because two seconds' worth
were waiting already) and `late_ms` (how far behind its schedule the publisher itself fell, at most).
"""

from __future__ import annotations

import gc
import json
import sys
import time
from typing import Any, Final

from bench.load.feed import Feed, RespFeed, open_feed

TICK_SECONDS: Final = 0.0005
_BACKLOG_SECONDS: Final = 2.0
_DRAIN_SECONDS: Final = 30.0
_FILL_WINDOW: Final = 2000


class Publisher:
    def __init__(self, feed: Feed, runs: int) -> None:
        self._feed = feed
        self._numbers = [0] * runs
        self._turn = 0

    def _offer(self, now_ns: int) -> None:
        run = self._turn
        self._turn = (run + 1) % len(self._numbers)
        self._numbers[run] += 1
        self._feed.offer(run, self._numbers[run], now_ns)

    def fill(self, each: int) -> dict[str, Any]:
        for _ in range(each * len(self._numbers)):
            self._offer(time.monotonic_ns())
            if self._feed.pending >= _FILL_WINDOW:
                self._drain(_FILL_WINDOW // 2)
        self._drain(0)
        return {"offered": each * len(self._numbers), "held_back": 0, "late_ms": 0.0, "cpu_seconds": 0.0}

    def pace(self, rate: float, seconds: float) -> dict[str, Any]:
        total = int(rate * seconds)
        backlog = max(64, int(rate * _BACKLOG_SECONDS))
        done = offered = 0
        late_seconds = 0.0
        cpu = time.process_time()
        start = time.monotonic()
        while done < total:
            now_ns = time.monotonic_ns()
            elapsed = now_ns / 1e9 - start
            due = min(total, int(elapsed * rate) + 1)
            late_seconds = max(late_seconds, elapsed - done / rate)
            room = max(0, backlog - self._feed.pending)
            for _ in range(min(due - done, room)):
                self._offer(now_ns)
            offered += min(due - done, room)
            done = due
            self._feed.pump(0)
            rest_seconds = max(start + done / rate, now_ns / 1e9 + TICK_SECONDS) - time.monotonic()
            if self._feed.answers_pace_it and self._feed.pending:
                self._feed.pump(max(0.0, rest_seconds))
            else:
                time.sleep(max(0.0, rest_seconds))
        cpu = time.process_time() - cpu
        self._drain(0)
        return {
            "offered": offered,
            "held_back": total - offered,
            "late_ms": late_seconds * 1e3,
            "cpu_seconds": cpu,
        }

    def _drain(self, down_to: int) -> None:
        deadline = time.monotonic() + _DRAIN_SECONDS
        while self._feed.pending > down_to and time.monotonic() < deadline:
            self._feed.pump(0.05)

    @property
    def sent(self) -> list[int]:
        return self._numbers

    @property
    def cursors(self) -> list[str]:
        assert isinstance(self._feed, RespFeed)
        return [entry_id.decode() for entry_id in self._feed.last_ids]


def main() -> None:
    publisher: Publisher | None = None
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, Any] = {}
        if order["op"] == "open":
            feed = open_feed(order["kind"], order["port"], order["executions"], order["options"])
            publisher = Publisher(feed, len(order["executions"]))
            gc.collect()
            gc.freeze()
        elif publisher is None:
            raise SystemExit("the first order must be 'open'")
        elif order["op"] == "fill":
            answer = publisher.fill(order["each"])
        elif order["op"] == "pace":
            answer = publisher.pace(order["rate"], order["seconds"])
        elif order["op"] == "sent":
            answer = {"sent": publisher.sent}
        elif order["op"] == "cursors":
            answer = {"cursors": publisher.cursors}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
