"""A small shop with holes, for the story and the tests to be scanned. Never put it where others can reach it.

``/hold?after=3`` keeps back all answers behind the next three, until ``/release``; ``/asked`` counts requests.
``python target.py --port 8300``
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

HOLD_SECONDS = 60.0
released = threading.Event()
released.set()
# Answers that are still given while others are kept back.
free = threading.Semaphore(0)
asked: Counter[str] = Counter()
lock = threading.Lock()
shop = sqlite3.connect(":memory:", check_same_thread=False)
shop.executescript(
    "CREATE TABLE users (name, password); INSERT INTO users VALUES ('admin', 'h4rd t0 gu3ss');"
    "CREATE TABLE goods (name); INSERT INTO goods VALUES ('a lamp'), ('a rug');"
)


class Shop(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
        if path in {"/hold", "/release"}:
            if path == "/hold":
                while free.acquire(blocking=False):
                    pass
                for _ in range(int(query.get("after", "0"))):
                    free.release()
                released.clear()
            else:
                released.set()
            self._answer(200, "done")
            return
        if path == "/asked":
            self._answer(200, json.dumps(asked), "application/json")
            return
        asked[path] += 1
        if not released.is_set() and not free.acquire(blocking=False):
            released.wait(HOLD_SECONDS)
        match path:
            case "/":
                self._answer(200, "<h1>The shop</h1>")
            case "/login":
                # The hole: what was sent becomes a part of the statement.
                found = self._rows(f"SELECT name FROM users WHERE name = '{query.get('user', '')}' AND password = ''")
                self._answer(200 if found else 401, f"welcome {found[0][0]}" if found else "no such user")
            case "/search":
                # Two holes: the same, and the text comes back as markup.
                rows = self._rows(f"SELECT name FROM goods WHERE name LIKE '%{query.get('q', '')}%'")
                self._answer(200, f"<p>{query.get('q', '')}: {len(rows or ())} found</p>")
            case "/account":
                # Sound: it asks for a password, whatever is sent along.
                self._answer(401, "who are you?")
            case "/redirect":
                self.send_response(302)
                self.send_header("Location", query.get("to", "/"))
                self.send_header("Content-Length", "0")
                self.end_headers()
            case _:
                self._answer(404, "there is no such page")

    def _rows(self, statement: str) -> list[tuple[str]] | None:
        try:
            with lock:
                return shop.execute(statement).fetchall()
        except sqlite3.Error:
            return None

    def _answer(self, status: int, body: str, kind: str = "text/html; charset=utf-8") -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data)
        except OSError:
            # A worker that was killed does not read it.
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Nothing: who watches the scan sees it there."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8300)
    with ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Shop) as server:
        server.serve_forever()
