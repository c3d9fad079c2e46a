"""Connections to Redis: addresses, one connection that reconnects, a cluster, Lua scripts. Imports model and errors."""
