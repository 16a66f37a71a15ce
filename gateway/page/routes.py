"""Which address of the page is answered by whom."""

from __future__ import annotations

from starlette.routing import Route

from gateway.chat.routes import chat_completions
from gateway.page import files, html, live, runs, sessions
from gateway.page.submit import submit

RUN = "/runs/{run}"
routes = [
    Route("/", runs.listed, methods=["GET"]),
    Route("/login", sessions.login, methods=["GET", "POST"]),
    Route("/logout", sessions.logout, methods=["POST"]),
    Route("/submit", submit, methods=["GET", "POST"]),
    Route("/live", live.of_list, methods=["GET"]),
    Route("/chat", chat_completions, methods=["POST"]),  # as /v1/chat/completions, for who has a session
    Route(RUN, runs.one, methods=["GET"]),
    Route(f"{RUN}/live", live.of_run, methods=["GET"]),
    Route(f"{RUN}/report.html", files.report, methods=["GET"]),
    Route(f"{RUN}/preview.html", files.preview, methods=["GET"]),
    Route(f"{RUN}/logs/{{stage}}", files.log, methods=["GET"]),
    Route(f"{RUN}/logs/{{stage}}/live", live.of_log, methods=["GET"]),
    Route(f"{RUN}/files/{{name:path}}", files.download, methods=["GET"]),
    Route(f"{RUN}/delete", runs.deleted, methods=["GET", "POST"]),
    Route(f"{RUN}/{{action}}", runs.acted, methods=["POST"]),
    Route("/assets/page.css", html.style, methods=["GET"]),
    Route("/assets/page.js", html.script, methods=["GET"]),
]
