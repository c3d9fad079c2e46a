"""What the gateway and the command line both ask of executions: lists, states, requests, pages, counts, batches.

Imports ownership, log and model.
"""
