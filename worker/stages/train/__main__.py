"""`python -m worker.stages.train RUN_DIR`."""

from worker.stages.process.main import main
from worker.stages.train.train import train

if __name__ == "__main__":
    main("train", train)
