"""Processes that a command starts on this machine, and signals to them."""
