"""`.ftqignore`: what a folder of documents holds beside documents, in gitignore's syntax."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ftq.errors import UserError, utf8

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

NAME = ".ftqignore"


class Ignore:
    """The `.ftqignore` files of a folder and of those in it, as git reads its own.

    The last line that fits counts, that of the deeper file before that of the higher one; what lies in an ignored
    folder can't be taken back.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._specs: dict[PurePosixPath, GitIgnoreSpec | None] = {}
        self._folders: dict[PurePosixPath, str] = {PurePosixPath(): ""}

    def reason(self, relative: PurePosixPath, is_folder: bool = False) -> str:
        """Which line leaves a path of the folder out ('docs/.ftqignore, line 3'), or an empty string."""
        if is_folder:
            if relative not in self._folders:
                self._folders[relative] = self.reason(relative.parent, True) or self._line(relative, True)
            return self._folders[relative]
        return self.reason(relative.parent, True) or self._line(relative, False)

    def has_rules(self, folder: PurePosixPath) -> bool:
        """Whether a file says anything about what lies in this folder."""
        return any(self._spec(place) is not None for place in (folder, *folder.parents))

    def _line(self, relative: PurePosixPath, is_folder: bool) -> str:
        for folder in relative.parents:  # the deepest first
            spec = self._spec(folder)
            if spec is None:
                continue
            check = spec.check_file(f"{relative.relative_to(folder)}{'/' if is_folder else ''}")
            if check.index is not None:
                return f"{utf8(str(folder / NAME))}, line {check.index + 1}" if check.include else ""
        return ""

    def _spec(self, folder: PurePosixPath) -> GitIgnoreSpec | None:
        if folder not in self._specs:
            self._specs[folder] = _read(self._root / folder / NAME)
        return self._specs[folder]


def _read(path: Path) -> GitIgnoreSpec | None:
    """Read an ignore file; None where there is none. UserError if it can't be read."""
    from pathspec import GitIgnoreSpec
    from pathspec.patterns.gitignore import GitIgnorePatternError

    try:
        lines = path.read_bytes().decode().removeprefix("\ufeff").split("\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"{path}: can't be read ({why})", "Fix it or remove it: it says what to leave out.") from None
    lines = [re.sub(r"/\*\*\s*$", "/**/*", line) for line in lines]  # 'a/**' is what lies in a, and not a itself
    for number, line in enumerate(lines, start=1):
        try:
            GitIgnoreSpec.from_lines([line])
        except GitIgnorePatternError:
            hint = "Its lines are written as in .gitignore."
            raise UserError(f"{path}, line {number}: not a pattern: {line!r}", hint) from None
    return GitIgnoreSpec.from_lines(lines)
