"""Everything that touches a server's internals: sockets, writing without a task, bounds before a request.

One file for each library (uvicorn, websockets), with a self-check. May import wire.
"""
