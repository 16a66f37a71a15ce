from tests.fake_stages import train
from worker.stages.process.main import main

if __name__ == "__main__":
    main("train", train)
