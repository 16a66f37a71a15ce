"""The commands. Each parses, makes one call of ftq.client and prints."""
