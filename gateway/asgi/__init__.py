"""Everything that touches a server's internals: sockets, writing without a task, bounds before a request.

Imports wire.
"""
