import tests.memory_stages  # noqa: F401
from worker.stages.process.main import main
from worker.stages.train.train import train

if __name__ == "__main__":
    main("train", train)
