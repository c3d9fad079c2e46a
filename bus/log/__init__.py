"""The log of an execution: appending, publishing, reading on, following. Imports tail, redis and model."""
