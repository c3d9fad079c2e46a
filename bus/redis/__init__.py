"""Connections to Redis: one that reconnects, one for a cluster, and Lua scripts. Imports model."""
