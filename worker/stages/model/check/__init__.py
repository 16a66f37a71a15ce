"""What prepare tries of a base model, before any time is spent on it."""
