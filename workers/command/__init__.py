"""The work inside the command pipeline: a program run without a shell, its lines as they come."""
