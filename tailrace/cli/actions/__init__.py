"""What each command does, over a gateway or over Redis itself."""
