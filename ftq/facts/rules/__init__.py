"""The rules, by what they read. Each takes a place (a section of a file) and yields facts."""
