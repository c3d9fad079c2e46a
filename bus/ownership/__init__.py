"""Who runs an execution, and how: lease, heartbeat, control requests, checkpoints, ending. Imports log."""
