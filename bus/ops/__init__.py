"""For operators: log lines, metrics, eviction risks. Imports model."""
