"""Pipelines, steps, conditions, and the context that a step is given. Imports command and errors."""
