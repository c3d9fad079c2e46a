"""What is to be done: pipelines, steps, conditions, and the context that a step is given."""
