"""A run is recorded: its documents copied, its name given, its files and its row put in place."""
