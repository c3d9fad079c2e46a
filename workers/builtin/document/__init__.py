"""The work inside the document pipeline: a file's text, its figures, its keywords and its summary."""
