"""Everything under artifacts/: the names of a run's files, how they get there, and the snapshot of its documents."""
