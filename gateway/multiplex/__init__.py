"""Several executions over one SSE response: a browser opens six connections an origin, a page may show more."""
