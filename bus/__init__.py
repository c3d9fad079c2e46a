"""The bus: events, log, publisher, tail, follow, executions. Knows nothing of HTTP."""
