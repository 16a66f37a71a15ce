"""How long submit and doctor take to tell of a bucket that takes connections and answers nothing.

    python -m benchmarks.silent_bucket [--rounds 3]

An S3 server (moto) is stopped by SIGSTOP; each command is a process of its own. The bar is five seconds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

from tests.bucket_server import FreezingServer

BAR = 5.0
COMMANDS = {"doctor": ["doctor"], "submit": ["submit", "--model", "smollm2-135m", "--documents", "documents"]}
MAIN = "from cli.main import main; main()"


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.silent_bucket", description=__doc__)
    arguments.add_argument("--rounds", type=int, default=3)
    rounds = arguments.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="ftq-silent-") as home:
        server = FreezingServer("silent")
        try:
            environment = {**os.environ, **server.environment, "FTQ_HOME": home}
            print(f"before it is stopped: doctor {seconds('doctor', environment):.1f} s")
            server.freeze()
            found = {name: [seconds(name, environment) for _ in range(rounds)] for name in COMMANDS}
            server.thaw()
        finally:
            server.close()
    print(f"load {os.getloadavg()[0]:.1f}\n\n| command | seconds | bar |\n|---|---|---|")
    for name, taken in found.items():
        print(f"| ftq {name} | {min(taken):.1f} to {max(taken):.1f} | {BAR:g} |")


def seconds(name: str, environment: dict[str, str]) -> float:
    """Of one command; SystemExit if it says nothing of the bucket where that is stopped."""
    began = time.monotonic()
    command = [sys.executable, "-c", MAIN, *COMMANDS[name]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    taken = time.monotonic() - began
    if done.returncode and "bucket" not in done.stdout + done.stderr:
        raise SystemExit(done.stdout + done.stderr)
    return taken


if __name__ == "__main__":
    main()
