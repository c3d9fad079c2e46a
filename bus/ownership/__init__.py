"""Who owns an execution, and how: lease, heartbeat, control requests, checkpoints, ending. Imports log, tail, redis."""
