"""`python -m worker.stages.prepare RUN_DIR`."""

from worker.stages.prepare.prepare import prepare
from worker.stages.process.main import main

if __name__ == "__main__":
    main("prepare", prepare)
