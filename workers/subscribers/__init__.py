"""Handlers that keep what they get: in a file, or as figures."""

from workers.subscribers.jsonl import JsonlFile
from workers.subscribers.metrics import Metrics

__all__ = ["JsonlFile", "Metrics"]
