"""`ftq push`: a model's files to the hub, as one commit, by the hub's own library.

The token comes from the environment or a file, as that library finds it; it is in no option and in no message.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ftq.delivery.card import with_card
from ftq.delivery.copy import damaged, sha256
from ftq.delivery.parts import CARD, Elsewhere, Model
from ftq.errors import FtqError, Refused, Unavailable, UserError, first_line
from ftq.version import VERSION, install
from ftq.words import listed

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
TOKEN = "Set HF_TOKEN to a token that may write, or HF_TOKEN_PATH to a file that holds one; `hf auth login` writes one."
SHOWN = 5  # files that an error names


@dataclass(frozen=True)
class Pushed:
    """`commit` is the page of the commit that has the files."""

    model: Model
    url: str
    commit: str


def check(repository: str) -> None:
    """UserError unless it is USER/NAME and the hub's library is installed."""
    if not _REPOSITORY.fullmatch(repository):
        raise UserError(f"{repository!r} is no repository of a hub", "For example: --to USER/handbook")
    if find_spec("huggingface_hub") is None:
        raise FtqError(
            "pushing needs huggingface_hub, which isn't installed here",
            f"`{install('hub')}` installs it.",
        )


def push(
    model: Model, repository: str, *, private: bool = False, update: bool = False, progress: bool = False
) -> Pushed:
    """Upload the model as one commit. What the hub has got already isn't sent again, as after an interruption.

    The repository is made if there is none. Refused if it has files, unless `update` says that they may be replaced,
    and if it is public though it has to be `private`.
    """
    check(repository)
    from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, get_token
    from huggingface_hub.utils.tqdm import disable_progress_bars

    endpoint = os.environ.get("HF_ENDPOINT") or None
    with _explained(repository, endpoint), contextlib.nullcontext() if progress else disable_progress_bars():
        token = get_token()
        if not token:
            raise UserError("there is no token for the hub", TOKEN)
        api = HfApi(endpoint=endpoint, token=token, library_name="ftq", library_version=VERSION)
        api.whoami()
        for part in model.parts:
            if part.sha256 and sha256(part) != part.sha256:
                raise damaged(part, model.run.name)
        _make_repository(api, repository, private, update)
        parts = with_card(model, Path(repository)).parts
        files = {part.name: part.source for part in parts if not isinstance(part.source, Elsewhere)}
        files[CARD] = str(
            ModelCard(bytes(files[CARD]).decode(), ignore_metadata_errors=True)
        ).encode()  # as the hub has it
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        commit = api.create_commit(repository, operations, commit_message=f"{model.name} as {model.kind}, made by ftq")
    return Pushed(model, f"{api.endpoint}/{repository}", commit.commit_url)


def _make_repository(api: HfApi, repository: str, private: bool, update: bool) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api.create_repo(repository, private=private or None)
        return
    except HfHubHTTPError as error:
        if error.response.status_code != 409:
            raise
    info = api.model_info(repository)
    files = sorted(one.rfilename for one in info.siblings or [] if one.rfilename != ".gitattributes")
    if private and not info.private:
        raise Refused(
            f"{repository} is there already, and public", "Make it private on its page, or leave out --private."
        )
    if files and not update:
        raise Refused(
            f"{repository} is there already, with {listed(files, SHOWN)}",
            "--update adds a commit to it; or give another: --to USER/NAME",
        )


@contextlib.contextmanager
def _explained(repository: str, endpoint: str | None) -> Iterator[None]:
    """What the hub or the network says, in words that help."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    hub = endpoint or "https://huggingface.co"
    try:
        yield
    except FtqError:
        raise
    except OfflineModeIsEnabled:
        raise FtqError("HF_HUB_OFFLINE is set, so nothing can be pushed", "Unset it for this command.") from None
    except Exception as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error  # of an upload
        if isinstance(cause, HfHubHTTPError):
            raise _answered(repository, hub, cause) from None
        if isinstance(cause, (httpx.TransportError, ConnectionError)):
            raise Unavailable(
                f"{hub} can't be reached: {first_line(cause)}",
                "Check the network and HF_ENDPOINT; the same command then goes on, and sends no file twice.",
            ) from None
        raise FtqError(f"pushing to {repository} failed: {first_line(cause)}", "FTQ_DEBUG=1 shows where.") from error


def _answered(repository: str, hub: str, error: Exception) -> FtqError:
    """What a refusal of the hub means."""
    status, said = error.response.status_code, (error.server_message or "").strip()  # type: ignore[attr-defined]
    quoted = f": {said}" if said else ""
    if status == 401:
        return UserError(f"{hub} doesn't accept the token{quoted}", TOKEN)
    if status == 403:
        hint = "Is that you, or an organisation that you may write to? A fine-grained token needs write access to it."
        return UserError(f"the token may not write to {repository}{quoted}", hint)
    if status == 404:
        return UserError(f"{hub} has no {repository}, or hides it from this token{quoted}", TOKEN)
    hint = "The same command goes on, and sends no file twice." if status >= 500 or status == 429 else ""
    return FtqError(f"{hub} answered {status} to pushing {repository}{quoted}", hint)
