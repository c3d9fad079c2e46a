"""Libraries of others whose work becomes events. Each needs an extra; nothing here is imported by `tailrace`."""
