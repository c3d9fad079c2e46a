"""What there is to say about executions: events, entries, cursors, states, keys.

Pure: no I/O and no clock. Imports nothing but the errors.
"""
