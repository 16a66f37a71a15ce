"""`python -m worker.stages.export RUN_DIR`."""

from worker.stages.export.export import export
from worker.stages.process.main import main

if __name__ == "__main__":
    main("export", export)
