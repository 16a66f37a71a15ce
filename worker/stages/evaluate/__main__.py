"""`python -m worker.stages.evaluate RUN_DIR`."""

from worker.stages.evaluate.evaluate import evaluate
from worker.stages.process.main import main

if __name__ == "__main__":
    main("evaluate", evaluate)
