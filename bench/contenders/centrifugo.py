"""Centrifugo, version 5 or 6, when its binary is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from bench.contenders.contender import Contender, Publishing, Running, Watching
from bench.process import Stage, answers, free_port, start_valkey

_HISTORY: Final = {
    "history_size": 20000,
    "history_ttl": "1h",
    "force_recovery": True,
    "allow_subscribe_for_client": True,
    "allow_subscribe_for_anonymous": True,
}


def binary() -> str | None:
    home = Path(os.environ.get("GOPATH", Path.home() / "go")) / "bin"
    return shutil.which("centrifugo") or shutil.which("centrifugo", path=str(home))


def configuration(version: str, port: int, redis_port: int) -> dict[str, Any]:
    """Lay the same settings out as the version wants them: one level until 5, nested since 6."""
    major = re.search(r"v(\d+)\.", version)
    redis = f"redis://127.0.0.1:{redis_port}"
    if major is not None and int(major[1]) < 6:
        return {
            "address": "127.0.0.1",
            "port": str(port),
            "api_insecure": True,
            "client_insecure": True,
            "allowed_origins": ["*"],
            "engine": "redis",
            "redis_address": redis,
            "uni_sse": True,
            "health": True,
            "log_level": "error",
            **_HISTORY,
        }
    return {
        "http_server": {"address": "127.0.0.1", "port": str(port)},
        "http_api": {"insecure": True},
        "client": {"insecure": True, "allowed_origins": ["*"], "connection_limit": 0},
        "engine": {"type": "redis", "redis": {"address": redis}},
        "channel": {"without_namespace": _HISTORY},
        "uni_sse": {"enabled": True},
        "health": {"enabled": True},
        "log": {"level": "error"},
    }


class Centrifugo(Contender):
    name = "centrifugo"
    about = "Centrifugo, Redis engine, history and recovery on, unidirectional SSE; publishing by its HTTP API"

    def missing(self) -> str | None:
        return None if binary() else "no `centrifugo` on the PATH"

    def start(self, stage: Stage) -> Running:
        valkey, redis_port = start_valkey(stage)
        port = free_port()
        program = binary() or self.name
        version = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout
        settings = stage.folder / "centrifugo.json"
        settings.write_text(json.dumps(configuration(version, port, redis_port)))
        server = stage.start(self.name, [program, "--config", str(settings)])
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
