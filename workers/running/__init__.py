"""A pipeline, run in an execution: steps in the loop, in threads, in processes. Imports definition and command."""
