"""How much one may ask for: live connections of this process, and rates that all gateways share. May import http."""
