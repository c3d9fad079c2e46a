"""The vocabulary of HTTP answers: problems, schemas, parameters. Imports no other room."""
