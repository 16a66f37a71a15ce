from tests.fake_stages import evaluate
from worker.stages.process.main import main

if __name__ == "__main__":
    main("evaluate", evaluate)
