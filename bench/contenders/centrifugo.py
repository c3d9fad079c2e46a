"""Centrifugo, when its binary is installed. Written from its documentation of version 6."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from urllib.parse import quote

from bench.contenders.contender import Contender, Publishing, Running, Watching
from bench.process import Stage, answers, free_port, start_valkey


def _binary() -> str | None:
    home = Path(os.environ.get("GOPATH", Path.home() / "go")) / "bin"
    return shutil.which("centrifugo") or shutil.which("centrifugo", path=str(home))


class Centrifugo(Contender):
    name = "centrifugo"
    about = "Centrifugo, Redis engine, history and recovery on, unidirectional SSE; publishing by its HTTP API"

    def missing(self) -> str | None:
        return None if _binary() else "no `centrifugo` on the PATH (v6)"

    def start(self, stage: Stage) -> Running:
        valkey, redis_port = start_valkey(stage)
        port = free_port()
        configuration = stage.folder / "centrifugo.json"
        configuration.write_text(
            json.dumps(
                {
                    "http_server": {"address": "127.0.0.1", "port": str(port)},
                    "http_api": {"insecure": True},
                    "client": {"insecure": True, "allowed_origins": ["*"], "connection_limit": 0},
                    "engine": {"type": "redis", "redis": {"address": f"redis://127.0.0.1:{redis_port}"}},
                    "channel": {
                        "without_namespace": {
                            "history_size": 20000,
                            "history_ttl": "1h",
                            "force_recovery": True,
                            "allow_subscribe_for_client": True,
                            "allow_subscribe_for_anonymous": True,
                        }
                    },
                    "uni_sse": {"enabled": True},
                    "health": {"enabled": True},
                    "log": {"level": "error"},
                }
            )
        )
        server = stage.start(self.name, [_binary() or self.name, "--config", str(configuration)])
        server.await_ready(lambda: answers(port, "/health"))
        subscription = quote('{"subs":{"{execution}":{"recover":true}}}', safe="{}")
        return Running(
            gateway=(server,),
            redis=(valkey,),
            publishing=Publishing(
                "http",
                port,
                {
                    "path": "/api/publish",
                    "headers": {"Content-Type": "application/json"},
                    "body": '{"channel":"{execution}","data":{event}}',
                },
            ),
            watching=Watching((port,), f"/connection/uni_sse?cf_connect={subscription}"),
        )
