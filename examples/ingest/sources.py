"""A server with a video, an article and a channel, and with what goes wrong, for the story and the tests.

``/hold`` keeps back each text until ``/release``. ``python sources.py --port 8200``
"""

from __future__ import annotations

import argparse
import json
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

HOLD_SECONDS = 60.0
AGES_DAYS = (1, 10, 20, 100, 200, 400)
released = threading.Event()
released.set()
asked: Counter[str] = Counter()


class Sources(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        asked[self.path] += 1
        if path in {"/hold", "/release"}:
            (released.clear if path == "/hold" else released.set)()
            self._answer("done")
        elif path == "/asked":
            self._answer(json.dumps(asked), "application/json")
        elif path == "/watch":
            name = query.get("v", [""])[0]
            released.wait(HOLD_SECONDS)
            self._answer(f"This is what is said in the video {name}. " * 100)
        elif path.startswith("/channel/"):
            self._answer(json.dumps(self._items(path.rpartition("/")[2])), "application/json")
        else:
            self._fixed(path)

    def _fixed(self, path: str) -> None:
        match path:
            case "/article":
                self._answer("<h1>Streams</h1><p>They flow one way.</p>", "text/html; charset=utf-8")
            case "/image":
                self._answer("not for reading", "image/png")
            case "/binary":
                self._answer(b"\x89PNG\x00\xff")
            case "/nul":
                self._answer("a\x00b")
            case "/empty":
                self._answer(" \n")
            case "/large":
                self._answer("x" * 6_000_000)
            case "/elsewhere":
                self.send_response(302)
                self.send_header("Location", "http://127.0.0.1:1/secret")
                self.send_header("Content-Length", "0")
                self.end_headers()
            case _:
                self.send_error(404)

    def _items(self, name: str) -> list[dict[str, str]]:
        """``many`` has 120 of the last hours; ``broken`` one that is not there."""
        origin, now = f"http://{self.headers['Host']}", datetime.now(UTC)
        ages = [timedelta(hours=number) for number in range(120)] if name == "many" else list(map(_days, AGES_DAYS))
        items = [
            {"url": f"{origin}/watch?v={name}{number}", "published": (now - age).isoformat()}
            for number, age in enumerate(ages)
        ]
        gone = {"url": f"{origin}/gone", "published": now.isoformat()}
        return [*items[:2], gone] if name == "broken" else items

    def _answer(self, body: str | bytes, kind: str = "text/plain; charset=utf-8") -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data)
        except OSError:
            # A worker that was killed does not read it.
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Nothing: who watches the ingests sees it there."""


def _days(days: int) -> timedelta:
    return timedelta(days=days)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8200)
    with ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Sources) as server:
        server.serve_forever()
