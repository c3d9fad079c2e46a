"""What each URL is: parse, ask, answer. May import every room but server and app."""
