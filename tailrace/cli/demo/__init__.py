"""``tailrace demo``: everything on one machine, compared at the end. May import all other rooms but commands."""
