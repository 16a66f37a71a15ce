from tests.fake_stages import train
from worker.stages.runtime import main

if __name__ == "__main__":
    main("train", train)
