import tests.memory_stages  # noqa: F401
from worker.stages.runtime import main
from worker.stages.train import train

if __name__ == "__main__":
    main("train", train)
