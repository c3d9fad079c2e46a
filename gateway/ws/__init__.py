"""WebSocket: many executions over one socket. The protocol stands in docs/websocket.md."""
