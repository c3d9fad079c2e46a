from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from bench.contenders.contender import Contender, Publishing, Running, Watching
from bench.process import Stage, answers, free_port, start_valkey

_MODULE: Final = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

_CONFIGURATION: Final = """
load_module {module};
daemon off;
user {user};
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 15000; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  tcp_nodelay on;
  keepalive_requests 100000000;
  keepalive_timeout 1h;
  nchan_shared_memory_size 1G;
  upstream events_redis {{ nchan_redis_server redis://127.0.0.1:{redis_port}; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /ready {{ return 200 "ready"; }}
    location ~ ^/publish/([\\w-]+)$ {{
      nchan_publisher http;
      nchan_channel_id $1;
      nchan_message_buffer_length 20000;
      nchan_message_timeout 1h;
      nchan_redis_pass events_redis;
    }}
    location ~ ^/events/([\\w-]+)$ {{
      nchan_subscriber eventsource;
      nchan_subscriber_first_message oldest;
      nchan_channel_id $1;
      nchan_message_buffer_length 20000;
      nchan_message_timeout 1h;
      nchan_redis_pass events_redis;
    }}
  }}
}}
"""


class Nchan(Contender):
    name = "nchan"
    about = "nginx with nchan, messages in Redis, EventSource subscribers, one worker; publishing by HTTP POST"

    def missing(self) -> str | None:
        if shutil.which("nginx") is None or not _MODULE.exists():
            return "apt-get install nginx libnginx-mod-nchan"
        return None

    def start(self, stage: Stage) -> Running:
        valkey, redis_port = start_valkey(stage)
        port = free_port()
        configuration = stage.folder / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                module=_MODULE,
                user=stage.folder.owner(),
                folder=stage.folder,
                redis_port=redis_port,
                port=port,
            )
        )
        server = stage.start("nginx", ["nginx", "-c", str(configuration), "-e", str(stage.folder / "error.log")])
        server.await_ready(lambda: answers(port, "/ready"))
        return Running(
            gateway=(server,),
            redis=(valkey,),
            publishing=Publishing(
                "http",
                port,
                {
                    "path": "/publish/{execution}",
                    "headers": {"X-EventSource-Event": "bench.word", "Accept": "text/plain"},
                    "body": "{event}",
                },
            ),
            watching=Watching((port,), "/events/{execution}"),
        )
