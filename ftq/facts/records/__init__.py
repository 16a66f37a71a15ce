"""JSON as it is written, and what its records are called."""
