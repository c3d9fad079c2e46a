"""The pipelines that come with Tailrace."""
