"""Code that runs when something happens, in one execution or, durably, in all. Imports nothing of workers."""

from tailrace.workers.handlers.delivery import Delivery
from tailrace.workers.handlers.execution_metrics import ExecutionMetrics
from tailrace.workers.handlers.handlers import Handler, Handlers
from tailrace.workers.handlers.jsonl import JsonlFile

__all__ = ["Delivery", "ExecutionMetrics", "Handler", "Handlers", "JsonlFile"]
