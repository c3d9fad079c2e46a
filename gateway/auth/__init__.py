"""Credentials: tokens, API keys, tickets, and their revocation. Knows no connection and no route. May import http."""
