"""Who may do what: tokens, API keys, tickets, revocation, and the one dependency that every route goes through."""
