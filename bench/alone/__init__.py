"""Programs that are measured alone: one process and its Redis, nobody watches."""
