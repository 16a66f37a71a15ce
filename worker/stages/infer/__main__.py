"""`python -m worker.stages.infer RUN_DIR`."""

from worker.stages.infer.infer import infer
from worker.stages.process.main import main

if __name__ == "__main__":
    main("infer", infer)
