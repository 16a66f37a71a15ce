"""A small server that speaks OpenAI's chat completions, well or badly, and writes a question without any model."""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-very-secret-1234"
MODELS = ["big", "small"]


@dataclass(frozen=True)
class Fault:
    """What comes instead of an answer. Status 0 cuts the connection."""

    status: int
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)


CUT = Fault(0)


def refusal(status: int, message: str, code: str | None = None, **headers: str) -> Fault:
    return Fault(status, json.dumps({"error": {"message": message, "code": code}}), headers)


def answer(text: str | None) -> Fault:
    """An answer that the model is made to give."""
    return Fault(200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}))


class LanguageModel:
    """`faults` are used up first; `bodies` and `keys` hold what was asked. After `most` requests it hangs."""

    def __init__(self) -> None:
        self.faults, self.bodies, self.keys = deque[Fault](), list[dict[str, Any]](), list[str]()
        self.most, self.hangs, self.released = 10**9, threading.Event(), threading.Event()
        self.dislikes = dict[str, str]()  # a body's field and what is said of it
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        return {"FTQ_LLM_URL": self.url, "FTQ_LLM_MODEL": "big", "FTQ_LLM_KEY": KEY}

    @property
    def prompts(self) -> list[str]:
        """Those of the requests after the first, which only says hello."""
        return [body["messages"][0]["content"] for body in self.bodies if "ready" not in body["messages"][0]["content"]]

    def reply(self, body: dict[str, Any], key: str) -> Fault:
        with self._lock:
            self.bodies.append(body)
            self.keys.append(key)
            fault = self.faults.popleft() if self.faults else None
            number = len(self.bodies)
        if number > self.most:
            self.hangs.set()
            self.released.wait(60)
        if fault:
            return fault
        if key != f"Bearer {KEY}":
            return refusal(401, f"Not a key: {key}", "invalid_api_key")
        if body["model"] not in MODELS:
            return refusal(404, f"The model `{body['model']}` does not exist", "model_not_found")
        for name, message in self.dislikes.items():
            if name in json.dumps(body):
                return refusal(400, message)
        return answer(_written(body["messages"][0]["content"]))

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _written(prompt: str) -> str:
    """The first four words of what is asked about, as a question."""
    if found := re.search(r"Statement: (.*)", prompt):
        return json.dumps({"questions": [f"What is known about {_start(found[1])}?", "Well?"]})
    if found := re.search(r"Text:\n(.*)", prompt):
        pair = {"question": f"Who says {_start(found[1])}?", "answer": " ".join(found[1].split()[-3:])}
        return f"<think>Hm, {{}}?</think>\n```json\n{json.dumps({'pairs': [pair]})}\n```"
    return json.dumps({"answer": "ready"})


def _start(text: str) -> str:
    return " ".join(text.split()[:4])


def _handler(model: LanguageModel) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(Fault(200, json.dumps({"data": [{"id": name} for name in MODELS]})))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/chat/completions":
                self._send(Fault(404, "no such page"))
                return
            self._send(model.reply(body, self.headers.get("Authorization", "")))

        def _send(self, fault: Fault) -> None:
            self.close_connection = True
            if not fault.status:
                return
            data = fault.body.encode()
            self.send_response(fault.status)
            for name, value in {**fault.headers, "Content-Length": str(len(data)), "Connection": "close"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
