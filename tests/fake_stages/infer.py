from tests.fake_stages import infer
from worker.stages.process.main import main

if __name__ == "__main__":
    main("infer", infer)
