"""The pipelines and steps that come with Tailrace. Imports running, definition and command."""
