"""A program run without a shell, its output line by line. Imports thread_call of workers."""
