"""What becomes of an execution whose owner is gone. Imports ownership and activity."""
