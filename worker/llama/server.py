"""A llama.cpp server in a child process: asked over a private Unix socket, and ended with this process."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ftq.errors import FtqError, UserError
from ftq.examples.prompt import prompt
from ftq.files.abilities import no_socket
from ftq.servers import LLM_SECRETS, NOT_FOR_STAGES
from ftq.words import LineBuffer
from worker.llama.answer import Answer, Question
from worker.llama.chat import ChatTemplate
from worker.machine import cgroup
from worker.machine.crash import ended

START_SECONDS = 300.0  # a large model from a slow disk
SLOTS = 4  # questions that are answered at the same time
LAST_LINES = 6  # of a dead server's output, in the error
SOCKET_FOLDER_BYTES = 70
SILENCE_SECONDS = 600.0  # without a token: a long prompt on a busy processor
DATA = b"data: "
BROKEN = (OSError, http.client.HTTPException)  # what a connection raises to a server that is gone


class Server:
    """A model loaded by llama.cpp. Several threads may ask at once; together they share `context` tokens."""

    def __init__(
        self,
        file: Path,
        context: int,
        *,
        idle_seconds: float = 300.0,
        gpu: bool = False,
        loras: Sequence[Path] = (),
        slots: int = SLOTS,
    ) -> None:
        """Start the child and wait until it answers. FtqError with its last lines if it can't load the file.

        `loras` are adapters as GGUFs of their own. They lie over the model together, unless a request says otherwise.
        """
        self.file, self.context, self.loras, self._slots = file, context, loras, slots
        self._folder = tempfile.TemporaryDirectory(prefix="ftq-llama-", dir=_short_folder())  # mode 700
        self._socket, self._key = str(Path(self._folder.name, "server.sock")), secrets.token_hex(16)
        self._output = Path(self._folder.name, "output")
        self._free, self._freed = context, threading.Condition()
        self._chat = ChatTemplate(self.tokens, self._post)
        self._process = self._spawn(idle_seconds, gpu)
        try:
            self._wait_until_ready()
            self.trained_context = int(self._json("GET", "/v1/models")["data"][0]["meta"]["n_ctx_train"])
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> tuple[str, str]:
        """(the socket's path, the key) for who asks this server in OpenAI's words."""
        return self._socket, self._key

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def tokens(self, text: str, *, start: bool = True, special: bool = False) -> list[int]:
        """The text's token ids. Text that looks like a control token becomes one only with `special`."""
        body = {"content": text, "add_special": start, "parse_special": special}
        ids: list[int] = self._post("/tokenize", body)["tokens"]
        return ids

    def prompt_ids(self, question: Question) -> list[int]:
        """The tokens of ftq's own prompt or of the GGUF's chat template; the question's text is plain text in both."""
        if not question.chat:
            return self.tokens(prompt(question.text, question.input))
        text, context = question.text.strip(), question.input.strip()
        if not context:
            return self._chat.ids([text])
        return self._chat.ids([context, text] if self._chat.takes_system else [f"{context}\n\n{text}"])

    def render(self, messages: list[dict[str, str]], **options: Any) -> str:
        """The text that the GGUF's chat template makes of a chat, up to where the model answers."""
        body = {"messages": messages, "chat_template_kwargs": options}
        text: str = self._post("/apply-template", body)["prompt"]
        return text

    def end_of_sequence(self) -> str:
        """The token that the GGUF names as the end of an answer."""
        name: str = self._json("GET", "/props")["eos_token"]
        return name

    def takes_tools(self) -> bool:
        """Whether the GGUF's chat template writes tools and calls of them."""
        capabilities = self._json("GET", "/props").get("chat_template_caps", {})
        return all(capabilities.get(name, True) for name in ("supports_tools", "supports_tool_calls"))

    def stream(
        self, question: Question, ids: list[int], stopped: Callable[[], bool] = lambda: False
    ) -> Generator[str, None, Answer]:
        """Yield the answer's text as it is written; the generator returns an Answer.

        `stopped` is called at each token; true ends the answer there. FtqError if llama.cpp dies meanwhile.
        """
        most = min(question.max_tokens, min(self.context, self.trained_context) - len(ids))
        body: dict[str, Any] = {
            "prompt": ids,
            "n_predict": most,
            "temperature": question.temperature,
            "stream": True,
            "cache_prompt": self._slots > 1,  # what an earlier question left changes how the rest is computed
            "top_k": 40 if question.temperature else 1,
            "top_p": 1.0,
            "min_p": 0.0,
        }
        body |= {} if question.seed is None else {"seed": question.seed}
        body |= {"grammar": question.grammar} if question.grammar else {}
        began = time.monotonic()
        first, text, last = 0.0, "", dict[str, Any]()
        with self._reserved(len(ids) + most if self._slots > 1 else self.context, stopped):  # one slot: each in turn
            for event in self._events("/completion", body):
                last = event
                if event["content"]:
                    first = first or time.monotonic() - began
                    text += event["content"]
                    yield event["content"]
                if stopped():
                    break
        ended = last.get("stop_type") in ("eos", "word")
        seconds = round(time.monotonic() - began, 3)
        return Answer(question.text, text.strip(), ended, last.get("tokens_predicted", 0), seconds, round(first, 3))

    def died(self, what: str, error: Exception | None = None) -> FtqError:
        """The error for a server that is gone, with its exit code and last lines; `error` is the connection's."""
        try:
            how = ended(self._process.wait(timeout=5))
        except subprocess.TimeoutExpired:
            how = f"no answer ({error})"
        output = "it printed nothing"
        with contextlib.suppress(FileNotFoundError):  # another thread may have closed this server and started the next
            lines = self._output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            output = "\n".join(lines[-LAST_LINES:]) or output
        return FtqError(
            f"llama.cpp {what} {self.file.name} ({how}):\n{output}",
            "`ftq doctor` shows whether llama.cpp works on this machine.",
        )

    def close(self) -> None:
        """End the child and remove its files."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin
        self._process.stdin.close()
        self._folder.cleanup()

    # ---- inside -----------------------------------------------------------------------------------------

    def _spawn(self, idle_seconds: float, gpu: bool) -> subprocess.Popen[bytes]:
        order = {
            "model": str(self.file),
            "context": self.context,
            "slots": self._slots,
            "threads": cgroup.processors(),
            "socket": self._socket,
            "key": self._key,
            "idle_seconds": int(idle_seconds),
            "gpu": gpu,
            "loras": [str(lora) for lora in self.loras],
        }
        withheld = {*NOT_FOR_STAGES, *LLM_SECRETS}
        environment = {name: value for name, value in os.environ.items() if name not in withheld}
        environment |= {} if gpu else {"CUDA_VISIBLE_DEVICES": ""}
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # its threads share the processor with a training run's
        with self._output.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker.llama.serve"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=environment,
            )
        assert process.stdin
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
        return process

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if not self.alive:
                raise self.died("couldn't load")
            with contextlib.suppress(*BROKEN), self._asked("GET", "/health", seconds=5) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.02)
        raise FtqError(
            f"llama.cpp hasn't loaded {self.file.name} in {START_SECONDS:.0f} s",
            "Its disk may be slow or its memory short: `ftq doctor` on the worker's machine checks both.",
        )

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._json("POST", path, body)

    def _json(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            with self._asked(method, path, body) as answer:
                self._check(answer)
                values: dict[str, Any] = json.load(answer)
                return values
        except BROKEN as error:
            raise self.died("stopped answering for", error) from None

    def _events(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The server-sent events of a streamed answer."""
        try:
            with self._asked("POST", path, body) as answer:
                self._check(answer)
                lines = LineBuffer()
                while piece := answer.read1():  # its own reading by lines takes a cut off answer for a whole one
                    told = (line for line in lines.take(piece) if line.startswith(DATA))
                    yield from (json.loads(line[len(DATA) :]) for line in told)
        except BROKEN as error:
            raise self.died("stopped while it answered for", error) from None

    @contextmanager
    def _asked(
        self, method: str, path: str, body: dict[str, Any] | None = None, seconds: float = SILENCE_SECONDS
    ) -> Iterator[http.client.HTTPResponse]:
        """A request's answer, open while the block runs. One of BROKEN where the server is gone.

        A connection each: llama.cpp's HTTP server drops one kept-alive connection in a hundred as a request comes.
        """
        headers = {"Authorization": f"Bearer {self._key}", "Connection": "close", "Content-Type": "application/json"}
        with contextlib.closing(_Connection(self._socket, seconds)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            with connection.getresponse() as answer:
                yield answer

    def _check(self, answer: http.client.HTTPResponse) -> None:
        if answer.status == 200:
            return
        said = answer.read().decode(errors="replace")
        try:
            message = json.loads(said)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            message = said[:300]
        raise FtqError(f"llama.cpp refuses the question to {self.file.name}: {message}", "The worker's log has more.")

    @contextmanager
    def _reserved(self, tokens: int, stopped: Callable[[], bool]) -> Iterator[None]:
        """Reserve tokens of the context, which all questions share, while the block runs."""
        if tokens > self.context:
            message = f"the question needs {tokens} tokens with its answer, the context has {self.context}"
            raise UserError(message, "Ask a shorter one, or for fewer --max-tokens.")
        with self._freed:
            while self._free < tokens and not stopped():
                self._freed.wait(0.2)
            self._free -= tokens
        try:
            yield
        finally:
            with self._freed:
                self._free += tokens
                self._freed.notify_all()


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket. Closing it closes the socket also where nobody listens; httpx leaves that one open."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("llama", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _short_folder() -> str | None:
    """A folder with sockets in which the path fits into the 107 bytes of sun_path (unix(7)); None is the usual one."""
    usual = tempfile.gettempdir()
    return None if len(os.fsencode(usual)) <= SOCKET_FOLDER_BYTES and not no_socket(Path(usual)) else "/tmp"
