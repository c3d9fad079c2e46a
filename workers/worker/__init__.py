"""The worker process: takes jobs from queues and attempts them. Imports running and builtin."""
