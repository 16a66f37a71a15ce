"""`make audit`: known vulnerabilities of the installed packages, by pip-audit from PyPI's advisories.

Fails when there is one. Where the advisory data can't be had (no network, an index of one's own) there is nothing
to fail on: it says why and passes. An index that knows no advisories must not look like a clean bill of health.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

# Advisories that don't touch ftq, each with the reason.
IGNORED: dict[str, str] = {}
SECONDS = 300


def main() -> int:
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--progress-spinner=off",
               "--format=json", *(f"--ignore-vuln={name}" for name in IGNORED)]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        found = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return _skip(f"no answer within {SECONDS} s")
    except (ValueError, KeyError):
        return _skip((done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1])
    return _judge(found)


def _judge(found: list[dict[str, Any]]) -> int:
    """0 clean or nothing known, 1 vulnerable. `found`: {"name", "version", "vulns"} or {"name", "skip_reason"}."""
    audited = [package for package in found if "skip_reason" not in package]
    if not audited:
        return _skip(found[0]["skip_reason"] if found else "no package is installed")
    for package in audited:
        for advisory in package["vulns"]:
            fixed = ", ".join(advisory["fix_versions"]) or "none yet"
            print(f"{package['name']} {package['version']}: {advisory['id']} (fixed in: {fixed})")
    vulnerable = [package for package in audited if package["vulns"]]
    left_out = f", {len(found) - len(audited)} not known to PyPI" if len(audited) < len(found) else ""
    print(f"audit: {len(audited)} packages asked for{left_out}, {len(vulnerable)} vulnerable")
    return 1 if vulnerable else 0


def _skip(reason: str) -> int:
    print(f"audit skipped, the advisory data can't be had here: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
