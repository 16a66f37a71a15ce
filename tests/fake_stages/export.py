from tests.fake_stages import export
from worker.stages.process.main import main

if __name__ == "__main__":
    main("export", export)
