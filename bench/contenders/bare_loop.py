"""The physical limit in Python, for machines without a C compiler: see bare.c, which it follows.

usage: bare_loop.py PORT
"""

from __future__ import annotations

import resource
import select
import socket
import struct
import sys

_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\r\n"


def main(port: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    poller = select.epoll()
    poller.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    runs: dict[int, list[socket.socket]] = {}
    publisher = -1
    held = b""
    while True:
        for fileno, _ in poller.poll():
            if fileno == listener.fileno():
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection
                poller.register(connection, select.EPOLLIN)
                continue
            data = connections[fileno].recv(1 << 20)
            if fileno == publisher:
                held = _publish(held + data, runs)
            elif data.startswith(b"PUT\n"):
                publisher, held = fileno, data[4:]
            elif data.startswith(b"GET /"):
                runs.setdefault(int(data[5:].split(b" ", 1)[0]), []).append(connections[fileno])
                connections[fileno].sendall(_RESPONSE)
            if not data:
                poller.unregister(fileno)
                del connections[fileno]


def _publish(records: bytes, runs: dict[int, list[socket.socket]]) -> bytes:
    at = 0
    while len(records) - at >= 8:
        run, length = struct.unpack_from("<II", records, at)
        if len(records) - at - 8 < length:
            break
        frame = records[at + 8 : at + 8 + length]
        for viewer in runs.get(run, ()):
            viewer.sendall(frame)
        at += 8 + length
    return records[at:]


if __name__ == "__main__":
    main(int(sys.argv[1]))
