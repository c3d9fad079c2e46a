"""Entries and control frames as bytes, one format each. Pure; imports no other room."""
