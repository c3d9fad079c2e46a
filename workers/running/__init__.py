"""Executes a pipeline: steps in the loop, in threads, in processes. Imports definition, command, errors."""
