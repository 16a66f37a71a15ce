"""One attempt of a stage, from its claim to its files in place."""
