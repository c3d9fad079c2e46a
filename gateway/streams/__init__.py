"""Live responses: SSE, NDJSON, WebSocket, several executions on one connection, long polling.

May import access, context and what is below them.
"""
