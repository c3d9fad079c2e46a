"""Text for terminals: safe, aligned, as people read it. Pure."""
