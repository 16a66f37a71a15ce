from tests.fake_stages import prepare
from worker.stages.process.main import main

if __name__ == "__main__":
    main("prepare", prepare)
