"""Requests and answers as HTTP has them: bodies, problems, headers, schemas. Imports no other room."""
