"""Where the base model comes from: a local folder, the Hugging Face cache, the hub, or a package.

Only safetensors weights are ever loaded, and code beside them is never run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ftq.errors import UNREADABLE, FtqError, UserError, blaming, first_line
from ftq.files.run_dir import sync, sync_tree
from ftq.settings import cache_dir, hub_folder
from ftq.spec import models, weights
from ftq.spec.options import Format
from worker.llama.packaged import packaged_gguf
from worker.stages.model import revisions
from worker.stages.model.smollm2 import write_checkpoint

SIDE_FILES = ["*.json", "*.jinja", "*.txt", "*.tiktoken", "tokenizer.model"]
FILES = ["*.safetensors", *SIDE_FILES]
TWICE = ["consolidated*", "params.json", "pytorch_model*"]  # the same model once more, in another form
LOG_IN = "`hf auth login` on the worker (with Docker: put the token into the file secrets/hub_token)"
HUB_SECONDS = 5.0  # in which the hub has to answer at all
QUIET = [
    *("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"),
    *("UNSLOTH_DISABLE_STATISTICS", "HF_HUB_DISABLE_PROGRESS_BARS"),
]
COMPILED = {  # where libraries keep what they compile: once for all runs
    "UNSLOTH_COMPILE_LOCATION": "unsloth_compiled_cache",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
}
PIECES = re.compile(r'"byte_fallback"\s*:\s*true')
TURN_ENDS = ["<|im_end|>", "<|end|>", "<|eot_id|>", "<end_of_turn>", "<|end_of_turn|>", "<|end_of_text|>"]


@blaming("model")
def resolve(model: str, revision: str | None = None) -> Path:
    """The local checkpoint directory of an alias, a hub id or a directory; downloaded if it isn't here.

    `revision` is the one that prepare used, as `revisions.of` writes it; None takes what is here, or the hub's newest.
    UserError if only another revision can be had.
    """
    folder = _find(model, revision)
    if revision and (here := revisions.of(folder)) != revision:
        raise revisions.another(model, revision, f"{folder} has {here}")
    _refuse_its_code(folder, model)
    return folder


def _find(model: str, revision: str | None) -> Path:
    entry = models.find(model)
    if entry is None and model.startswith(("/", "~", ".")):
        return Path(models.check(model))
    hub_id = entry.hub_id if entry else model
    if not models.is_hub_id(hub_id):
        raise UserError(f"model {model}: neither a hub id nor the path of a folder", "`ftq models` lists what works.")
    commit = revision if revision and revisions.COMMIT.fullmatch(revision) else None
    package = revisions.of_package() if entry and entry.alias == models.PACKAGED else ""
    if revision and revision == package:
        return _from_package()
    if revision and not commit:
        raise revisions.another(model, revision, f"{package or f'no {revisions.PACKAGE}'} is installed here")
    local = _in_hub_cache(hub_id, commit)
    if local is None and package and not commit:
        local = _from_package()
    return local or _download(hub_id, commit)


def _refuse_its_code(folder: Path, model: str) -> None:
    """UserError if the model needs code of its own: that is never run. A type that transformers has needs none."""
    config = read_config(folder)
    if not config.get("auto_map"):
        return
    from transformers import CONFIG_MAPPING

    if config.get("model_type") not in CONFIG_MAPPING:
        raise UserError(
            f"model {model} needs code of its own (auto_map in its config.json), and ftq never runs a model's code",
            "Take a model whose type transformers knows: `ftq models`.",
        )


@contextlib.contextmanager
def into_cache(target: Path) -> Iterator[Path]:
    """A folder to fill, which is renamed to `target` at the end of the block. Another process may have been faster."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".partial", dir=target.parent) as partial:
        yield Path(partial)
        sync_tree(Path(partial))
        try:
            os.rename(partial, target)
            sync(target.parent)
            Path(partial).mkdir()  # TemporaryDirectory needs something to remove
        except OSError:
            if not target.is_dir():
                raise


def go_offline() -> None:
    """Stop the libraries from asking the hub and from sending statistics: the model is local from here on."""
    for name in QUIET:
        os.environ[name] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    for name, folder in COMPILED.items():
        os.environ.setdefault(name, str(cache_dir() / folder))
    if find_spec("huggingface_hub"):
        import huggingface_hub.constants

        huggingface_hub.constants.HF_HUB_OFFLINE = True  # it read the environment when it was imported


def stop_token(model_dir: Path, model: str, format: Format = "alpaca") -> str:
    """The token that ends an answer, checked to be one token of the model's tokenizer.

    With format=chat it is the token that the model's own template writes after an answer.
    """
    from worker.stages.model.tokens import Tokens

    tokens = Tokens(model_dir, format)
    if tokens.template:
        return tokens.template.stop
    entry = models.find(model)
    candidates = [entry.stop] if entry else [*_turn_ends(model_dir), *_declared_ends(model_dir, tokens)]
    for candidate in candidates:
        if tokens.id_of(candidate) is not None:
            return candidate
    raise UserError(
        f"model {model}: no stop token in its tokenizer (looked for: {', '.join(candidates) or 'none is declared'})",
        "Give it an eos_token_id in generation_config.json.",
    )


def read_config(model_dir: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    return value


def side_files(model_dir: Path) -> list[Path]:
    """The tokenizer's files and all settings."""
    files = {path for pattern in SIDE_FILES for path in model_dir.glob(pattern)}
    unread = TWICE if weights.weight_index(model_dir) else [*TWICE, weights.INDEX]  # the converter would follow it
    return sorted(path for path in files if not any(path.match(pattern) for pattern in unread))


def link(model_dir: Path, target: Path) -> None:
    """Make the folder `target` of links to what the model is loaded from, and to nothing else that lies beside it."""
    target.mkdir()
    for path in [*side_files(model_dir), *weights.paths(model_dir)]:
        (target / path.name).symlink_to(path.resolve())


def read_ahead(model_dir: Path) -> None:
    """Have the kernel read the weights from the disk in the background; returns at once."""
    for path in weights.paths(model_dir):
        with contextlib.suppress(OSError, AttributeError), path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def _in_hub_cache(hub_id: str, commit: str | None) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        path = Path(snapshot_download(hub_id, revision=commit, local_files_only=True))
    except Exception:  # missing, or not whole: it has to come from elsewhere
        return None
    if not _is_whole(path):
        return None
    if not (path / "tokenizer.model").is_file() and _has_pieces(path):  # most converters need that file
        with contextlib.suppress(UserError):  # or the hub doesn't have it either: the converter will say so
            return _download(hub_id, path.name)
    return path


def _has_pieces(path: Path) -> bool:
    """Whether the tokenizer was made of a SentencePiece model, as those with pieces for single bytes are."""
    try:
        text = (path / "tokenizer.json").read_text(encoding="utf-8")
        if not PIECES.search(text):  # parsing a hundred thousand tokens takes a fifth second
            return False
        model = json.loads(text)["model"]
        return bool(model.get("byte_fallback"))
    except UNREADABLE:
        return False


def _is_whole(path: Path) -> bool:
    """Whether config, tokenizer and every weight file are there: a download may have broken off."""
    files = weights.paths(path)
    has_tokenizer = any((path / name).is_file() for name in ("tokenizer.json", "tokenizer.model"))
    complete = bool(files) and all(file.is_file() for file in files)
    return has_tokenizer and (path / "config.json").is_file() and complete


def _download(hub_id: str, commit: str | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        # fails at once where the download would retry for minutes
        HfApi().model_info(hub_id, revision=commit, timeout=HUB_SECONDS)
        path = Path(snapshot_download(hub_id, revision=commit, allow_patterns=FILES, ignore_patterns=[*TWICE, "*/*"]))
    except GatedRepoError:
        hint = f"Accept its licence on https://huggingface.co/{hub_id}, then {LOG_IN}."
        raise UserError(f"model {hub_id} is gated on the hub", hint) from None
    except RepositoryNotFoundError:
        hint = f"Check the name; a private one needs this: {LOG_IN}."
        raise UserError(f"model {hub_id}: the hub has no such model", hint) from None
    except RevisionNotFoundError:
        raise revisions.another(hub_id, str(commit), "the hub doesn't have that any more") from None
    except Exception as error:
        raise _unreachable(hub_id, commit, error) from None
    if not _is_whole(path):
        raise UserError(
            f"model {hub_id} has no whole set of safetensors weights on the hub",
            "ftq reads *.safetensors only: take a copy of the model that has them. `ftq models` lists some.",
        )
    return path


def _unreachable(hub_id: str, commit: str | None, error: Exception) -> FtqError:
    why = f"is not on this machine and the hub can't be reached ({first_line(error)[:200]})"
    if commit:
        return UserError(
            f"model {hub_id}: revision {commit}, with which the run was prepared, {why}",
            f"Run `hf download {hub_id} --revision {commit}` here or where there is network, copy the folder "
            f"{hub_folder(hub_id).name} into this machine's hub cache, then `ftq retry RUN`.",
        )
    return UserError(
        f"model {hub_id} {why}",
        f"Run `hf download {hub_id}` where there is network and copy the folder here, then give it as --model DIR.",
    )


def _from_package() -> Path:
    """The packaged model's checkpoint in the cache, written now if need be."""
    checkpoint, gguf = revisions.packaged_dir(), packaged_gguf()
    if gguf and not checkpoint.is_dir():
        with into_cache(checkpoint) as partial:
            write_checkpoint(gguf, partial)
        with contextlib.suppress(OSError):  # not every disk keeps modes
            checkpoint.chmod(0o755)
    return checkpoint


def _turn_ends(model_dir: Path) -> list[str]:
    """The usual ends of a turn that the chat template holds."""
    template = ""
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        if (model_dir / name).is_file():
            text = (model_dir / name).read_text(encoding="utf-8")
            template += text if name.endswith(".jinja") else str(json.loads(text).get("chat_template") or "")
    return [end for end in TURN_ENDS if end in template]


def _declared_ends(model_dir: Path, tokens: Any) -> list[str]:
    """The end-of-sequence tokens that generation_config.json, tokenizer_config.json and config.json declare."""
    ends: list[str] = []
    for name in ("generation_config.json", "tokenizer_config.json", "config.json"):
        if not (model_dir / name).is_file():
            continue
        values = json.loads((model_dir / name).read_text(encoding="utf-8"))
        ids = values.get("eos_token_id")
        ends += [tokens.text_of(i) for i in (ids if isinstance(ids, list) else [ids]) if isinstance(i, int)]
        declared = values.get("eos_token")
        ends += [declared["content"] if isinstance(declared, dict) else declared] if declared else []
    return [end for end in dict.fromkeys(ends) if end]
