"""What an error of a bucket's library means, and what a person does about it."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator

from ftq.errors import first_line
from ftq.files.remote.kinds.kinds import LOCAL, kind_of
from ftq.servers import without_password

SERVER = "AWS_ENDPOINT_URL"
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) name the user; AWS_ENDPOINT_URL a server that "
    "isn't Amazon's",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS names the key's file",
    "az": "AZURE_STORAGE_CONNECTION_STRING names the account and its key, or AZURE_STORAGE_ACCOUNT_NAME and "
    "AZURE_STORAGE_ACCOUNT_KEY",
}
# The names of errors: of botocore, google-auth and azure-core.
_NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "TokenRetrievalError",
    "DefaultCredentialsError",
    "CredentialUnavailableError",
}
_NO_BUCKET = ("bucket is not valid", "specified container does not exist")


def is_missing(error: BaseException) -> bool:
    """Whether there is no such object, or no such bucket."""
    return isinstance(error, FileNotFoundError) or type(error).__name__ == "ResourceNotFoundError"


def is_no_bucket(error: BaseException) -> bool:
    return any(
        type(one).__name__ == "NoSuchBucket" or any(text in str(one) for text in _NO_BUCKET) for one in _chain(error)
    )


def is_closed(error: BaseException) -> bool:
    """Whether the server refuses who asks, or nobody says who that is.

    gcsfs tells it by its words, Azure by the answer's status.
    """
    if isinstance(error, PermissionError) or str(error).startswith("Forbidden:") or _has_no_credentials(error):
        return True
    return any(getattr(one, "status_code", getattr(one, "code", 0)) in (401, 403) for one in _chain(error))


def explain(error: BaseException, url: str) -> tuple[bool, str, str]:
    """(whether somebody has to correct a setting first, what happened, what to do)."""
    scheme, _, place = url.partition("://")
    kind = kind_of(scheme)
    code = next(filter(None, map(_code_of, _chain(error))), "")
    text = first_line(error).partition(': "http')[0]  # no address of a single request
    text = code or type(error).__name__ if text in ("", "None") else text  # Ceph says no more than the code
    who = CREDENTIALS.get(kind, "")
    if is_no_bucket(error):
        name = place.partition("/")[0]
        return True, f"bucket {url}: there is no bucket {name}", _make(kind, name)
    if _has_no_credentials(error):
        return True, f"bucket {url}: no credentials ({text})", f"{who}."
    if code == "RequestTimeTooSkewed":
        return True, f"bucket {url} is closed: this machine's clock is wrong ({text})", "timedatectl set-ntp true"
    if is_closed(error):
        hint = f"{who}. The user has to list, read, write and delete below the URL."
        if kind == LOCAL:
            hint = f"Correct the owner and mode of {os.path.abspath(place)}."
        return True, f"bucket {url} is closed ({text})", hint
    return False, *unreachable(text, url)


def unreachable(text: str, url: str) -> tuple[str, str]:
    """(what happened, what to do)."""
    kind = kind_of(url.partition("://")[0])
    server = endpoint(url)
    where = f" at {server}" if server else ""
    hint = "Is it up?"
    if kind == "s3":
        hint = "Is its server up, and AWS_ENDPOINT_URL right?"
    elif kind != LOCAL:
        hint = f"Is the network up? {CREDENTIALS[kind]}."
    if "Invalid endpoint" in text or "WRONG_VERSION_NUMBER" in text:
        hint = "AWS_ENDPOINT_URL begins with http://, or with https:// if the server has a certificate."
    return f"bucket {url}{where} is unreachable ({text})", f"{hint} `ftq doctor` looks again."


def endpoint(url: str) -> str:
    """The server that this process reaches the bucket through, for people; empty where none is named for S3."""
    is_s3 = kind_of(url.partition("://")[0]) == "s3"
    return without_password(os.environ.get(f"{SERVER}_S3") or os.environ.get(SERVER) or "") if is_s3 else ""


def _make(kind: str, name: str) -> str:
    """What to type for a bucket that is missing, with what ftq installs."""
    if kind != "s3" or not re.fullmatch(r"[a-z0-9.-]+", name):
        return "Correct FTQ_ARTIFACTS_URL, or make it."
    line = f"import s3fs; s3fs.S3FileSystem().mkdir('{name}')"
    return f'Correct FTQ_ARTIFACTS_URL, or make the bucket:\n{shlex.quote(sys.executable)} -c "{line}"'


def _has_no_credentials(error: BaseException) -> bool:
    names = {type(one).__name__ for one in _chain(error)}
    return bool(names & _NO_CREDENTIALS) or "with credentials" in first_line(error).partition(': "http')[0]


def _code_of(error: BaseException) -> str:
    """The code that S3 gives an error; empty where it has none."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
