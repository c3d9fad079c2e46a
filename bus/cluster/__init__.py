"""Redis Cluster: one line and one tail a node, the keys of an execution in one slot."""
