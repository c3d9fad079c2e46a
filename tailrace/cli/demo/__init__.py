"""The main job, end to end, before the user's eyes."""
