"""The worker process: takes jobs from queues and attempts them. Imports all other rooms of workers."""
