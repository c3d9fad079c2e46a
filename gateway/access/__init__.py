"""Who may do what here: credentials, limits and presence put together for each request."""
