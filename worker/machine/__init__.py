"""What this machine has and what its container may use, read without torch."""
