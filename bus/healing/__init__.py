"""What becomes of an execution whose owner is gone. Imports ownership, activity, log, redis and model."""
