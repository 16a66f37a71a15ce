"""What an error of a bucket's library means, and what a person does about it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from ftq.errors import Unavailable, first_line, is_disk_full
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
WRITERS = {  # what a user needs who may only read so far
    "s3": "s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload",
    "gs": "Storage Object Admin (roles/storage.objectAdmin)",
    "az": "Storage Blob Data Contributor",
}
LOGIN = "gcloud auth application-default login"
_NAMES_GOOGLE = ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST", "GCE_METADATA_HOST", "GCE_METADATA_IP")
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
# Ceph says QuotaExceeded, MinIO XMinioStorageFull or XMinioAdminBucketQuotaExceeded, others InsufficientStorage. Google
# says quotaExceeded of requests a second too.
_FULL = re.compile(
    r"quota[^.]{0,40}exceeded|exceed[^.]{0,40}quota|storage.?(is.?)?full|insufficient.?(storage|capacity)|storage.?cap|"
    r"no space left",
    re.I,
)
_FAST = re.compile(r"\brate|requests|per (second|minute|day)|slow.?down", re.I)
_LIMIT = re.compile("quota|limit", re.I)
_GCSFS = ("Forbidden:", "Bad Request:")  # how its errors begin
_TIMEOUTS = {"ReadTimeoutError", "ServiceResponseTimeoutError", "SocketTimeoutError", "ServerTimeoutError"}
_FULL_STATUS = 507  # HTTP's Insufficient Storage


class OutOfReach(Unavailable):
    """The bucket can't be used now: it is missing, closed or unreachable."""

    is_lasting = False  # whether somebody has to mend a setting first
    gives = False  # whether files can be read there all the same


class Misnamed(OutOfReach):
    """There is no such bucket, or it is closed to these credentials."""

    is_lasting = True


class Closed(Misnamed):
    """Whoever answered refuses these credentials, or they are missing: another server wouldn't mend that."""


class TakesNothing(OutOfReach):
    """The bucket lists its files and gives them, and takes none: it is full, or so is what stands behind it."""

    gives = True


class ReadOnly(TakesNothing):
    """These credentials may read there, and not write."""

    is_lasting = True


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
    if isinstance(error, OSError) and error.errno == errno.EROFS:  # a folder's disk
        return True
    if isinstance(error, PermissionError) or _has_no_credentials(error):
        return True
    if str(error).startswith(_GCSFS[0]):  # Google says so of too many requests, too
        return not (_FAST.search(_said(error)) and _LIMIT.search(_said(error)))
    return any(getattr(one, "status_code", getattr(one, "code", 0)) in (401, 403) for one in _chain(error))


def is_full(error: BaseException) -> bool:
    """Whether the server, or a folder's disk, has no room for what was to be put there."""
    for one in _chain(error):
        said = f"{_code_of(one)} {_said(one)}"
        is_told = _FULL.search(said) and not _FAST.search(said)
        if is_told or _status_of(one) == _FULL_STATUS or (isinstance(one, OSError) and is_disk_full(one)):
            return True
    return False


def is_silent(error: BaseException) -> bool:
    """Whether an answer was waited for in vain. A cluster of Ceph whose disks are full answers no write."""
    return any(isinstance(one, TimeoutError) or type(one).__name__ in _TIMEOUTS for one in _chain(error))


def explain(error: BaseException, url: str, *, gives: bool = False) -> OutOfReach:
    """What happened, and what to do. `gives`: something was to be put there, and the bucket lists all the same."""
    scheme, _, place = url.partition("://")
    kind = kind_of(scheme)
    code = next(filter(None, map(_code_of, _chain(error))), "")
    text = _said(error).partition(': "http')[0]  # no address of a single request
    text = code or type(error).__name__ if text in ("", "None") else text  # Ceph says no more than the code
    if is_no_bucket(error):
        name = place.partition("/")[0]
        return Misnamed(f"bucket {url}: there is no bucket {name}", _make(kind, name))
    if _has_no_credentials(error) or _names_nobody(kind):
        return _no_credentials(text, url)
    if code == "RequestTimeTooSkewed":
        message = f"bucket {url} is closed: this machine's clock is wrong ({text})"
        return Closed(message, "timedatectl set-ntp true")
    if gives and is_full(error):
        return takes_nothing(f"it is full: {code or text}", url)
    if gives and is_closed(error):
        return _read_only(text, url)
    if is_closed(error):
        hint = f"{CREDENTIALS.get(kind, '')}. The user has to list, read, write and delete below the URL."
        if kind == LOCAL:
            hint = f"Correct the owner and mode of {os.path.abspath(place)}."
        return Closed(f"bucket {url} is closed ({text})", hint)
    return takes_nothing(f"no answer: {text}", url) if gives and is_silent(error) else unreachable(text, url)


def takes_nothing(text: str, url: str) -> TakesNothing:
    """What is said of a bucket that lists its files, and has no room or doesn't answer where one is to be put."""
    if kind_of(url.partition("://")[0]) == LOCAL:
        hint = "Make room on its disk: `ftq gc` deletes old runs."
    elif text.startswith("it is full"):
        hint = "`ftq gc` deletes old runs; or have its quota raised, or disks added."
    else:
        hint = "Are its disks full, or some of them gone? Whoever runs it sees that (on Ceph: `ceph health detail`)."
    return TakesNothing(f"bucket {url} takes no file ({text})", f"{hint} What is in it can be read meanwhile.")


def unreachable(text: str, url: str) -> OutOfReach:
    """What is said of a bucket that nobody answers for; of Google's, whether anybody has said who asks."""
    kind = kind_of(url.partition("://")[0])
    if _names_nobody(kind):
        return _no_credentials(text, url)
    server = endpoint(url)
    where = f" at {server}" if server else ""
    hint = "Is it up?"
    if kind == "s3":
        hint = "Is its server up, and AWS_ENDPOINT_URL right?"
    elif kind != LOCAL:
        hint = f"Is the network up? {CREDENTIALS[kind]}."
    if "Invalid endpoint" in text or "WRONG_VERSION_NUMBER" in text:
        hint = "AWS_ENDPOINT_URL begins with http://, or with https:// if the server has a certificate."
    return OutOfReach(f"bucket {url}{where} is unreachable ({text})", f"{hint} `ftq doctor` looks again.")


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


def _read_only(text: str, url: str) -> ReadOnly:
    scheme, _, place = url.partition("://")
    kind = kind_of(scheme)
    message = f"bucket {url} takes no file: these credentials may read there, and not write ({text})"
    hint = f"The user needs {WRITERS.get(kind, 'to write and delete')} below the URL too. {CREDENTIALS.get(kind, '')}."
    if kind == LOCAL:
        message = f"bucket {url} takes no file: it may be read here, and not written ({text})"
        hint = f"Correct the owner and mode of {os.path.abspath(place)}, or mount its disk to be written."
    return ReadOnly(message, hint)


def _no_credentials(text: str, url: str) -> Closed:
    kind = kind_of(url.partition("://")[0])
    hint = f"{CREDENTIALS.get(kind, '')}."
    if kind == "gs":
        hint = f"{LOGIN}   (or export GOOGLE_APPLICATION_CREDENTIALS=FILE, with the key of a service account)"
    return Closed(f"bucket {url}: no credentials ({text})", hint)


def _names_nobody(kind: str) -> bool:
    """Whether nothing here names a user of Google's: gcsfs looks for a server that may then, for long.

    A machine of Google's has one; a server that stands in for Google's asks for none.
    """
    if kind != "gs":
        return False
    from fsspec.config import conf

    if conf.get("gs") or conf.get("gcs") or any(map(os.environ.get, _NAMES_GOOGLE)):
        return False
    gcloud = os.environ.get("CLOUDSDK_CONFIG") or os.path.expanduser("~/.config/gcloud")
    files = (f"{gcloud}/application_default_credentials.json", os.path.expanduser("~/.gcs_tokens"))
    return not any(map(os.path.exists, files)) and not _is_googles()


def _is_googles() -> bool:
    """Whether this machine is one of Google's."""
    with contextlib.suppress(OSError, ValueError):
        return Path("/sys/class/dmi/id/product_name").read_text(encoding="utf-8").startswith("Google")
    return False


def _said(error: BaseException) -> str:
    """What the server says. gcsfs puts the address of the request above it."""
    head, _, said = str(error).partition("\n")
    return said.strip().partition("\n")[0] if said.strip() and head.startswith(_GCSFS) else first_line(error)


def _has_no_credentials(error: BaseException) -> bool:
    names = {type(one).__name__ for one in _chain(error)}
    return bool(names & _NO_CREDENTIALS) or "with credentials" in first_line(error).partition(': "http')[0]


def _code_of(error: BaseException) -> str:
    """The code that S3 gives an error; empty where it has none."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _status_of(error: BaseException) -> int:
    """HTTP's, as botocore, azure-core and gcsfs keep it; 0 where there is none."""
    response = getattr(error, "response", None)
    told = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    told = told or getattr(error, "status_code", None) or getattr(error, "code", None)
    return int(str(told)) if str(told).isdecimal() else 0


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
