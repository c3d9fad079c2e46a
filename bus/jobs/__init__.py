"""Submitted work: queues, delayed jobs, concurrency keys, dead letters. Imports log, redis and model."""
