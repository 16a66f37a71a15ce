"""The texts that benchmarks/documents/ asks about, taken from their repositories.

    python -m benchmarks.manuals DIR [--questions FOLDER] [--clones DIR]

DIR gets a folder for each manual, checked by its number of files and bytes. A repository is cloned from where its file
says, or taken from `--clones`, a folder with clones by their name ("diun", or "owner+diun").
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

QUESTIONS = Path(__file__).parent / "documents"
MARKDOWN = (".md", ".mdx")


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.manuals")
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--questions", type=Path, default=QUESTIONS, help="a folder with a file for each manual")
    arguments.add_argument("--clones", type=Path, help="a folder with clones of the repositories")
    given = arguments.parse_args()
    for path in sorted(given.questions.glob("*.json")):
        if (given.folder / path.stem).exists():
            continue
        source = json.loads(path.read_text(encoding="utf-8"))["manual"]
        with tempfile.TemporaryDirectory() as work:
            write(source, clone_of(source["repository"], given.clones, Path(work)), given.folder / path.stem)
        print(f"{path.stem}: {source['files']} files, {source['bytes']:,} bytes")


def clone_of(repository: str, clones: Path | None, work: Path) -> Path:
    """A folder with the repository's git directory."""
    owner, name = repository.rsplit("/", 2)[1:]
    for known in (clones / name, clones / f"{owner}+{name}" / "repo", clones / f"{owner}+{name}") if clones else ():
        if known.is_dir():
            return known
    subprocess.run(["git", "clone", "--quiet", "--no-checkout", repository, str(work / name)], check=True)
    return work / name


def write(source: dict[str, Any], clone: Path, folder: Path) -> None:
    """The Markdown files of the commit's folder, but for those that are left out."""
    what = f"{source['commit']}:{source['folder']}"

    def git(*words: str) -> bytes:
        return subprocess.run(["git", "-C", str(clone), *words], stdout=subprocess.PIPE, check=True).stdout

    for name in filter(None, git("ls-tree", "-rz", "--name-only", what).decode().split("\0")):
        path = Path(name)
        if path.suffix in MARKDOWN and not any(path.is_relative_to(one) for one in source["left_out"]):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(git("cat-file", "blob", f"{what}/{name}"))
    have = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    counted = (len(have), sum(have)), (source["files"], source["bytes"])
    if counted[0] != counted[1]:
        shutil.rmtree(folder)
        sys.exit(
            f"{folder.name}: {len(have)} files of {sum(have):,} bytes, not {source['files']} of {source['bytes']:,}"
        )


if __name__ == "__main__":
    main()
