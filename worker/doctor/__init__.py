"""The worker's half of `ftq doctor`."""
