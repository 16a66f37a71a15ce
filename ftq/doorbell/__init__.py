"""The broker as more than a queue: whose it is, and who rings."""
