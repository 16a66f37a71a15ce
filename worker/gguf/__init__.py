"""GGUF files: converted from a checkpoint, then quantised, each in a process of its own. No torch here."""
