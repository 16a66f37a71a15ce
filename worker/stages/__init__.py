"""The stages: each a process of its own, a function of a directory."""

STOPPED = 75  # exit code: asked to stop, all that was worth keeping is kept (EX_TEMPFAIL)
