"""Live responses: SSE, NDJSON, WebSocket, several executions on one connection, long polling."""
