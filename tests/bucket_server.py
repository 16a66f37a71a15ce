"""A real S3 server for tests: moto over HTTP on a loopback port. It can be stopped and started with what it holds."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

from tests.tools import free_port, freeze, listens, until

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
logging.getLogger("werkzeug").setLevel(logging.ERROR)


class BucketServer:
    """`bucket` is there once it is started; `environment` is what a process needs to use it."""

    def __init__(self, bucket: str, host: str = "127.0.0.1") -> None:
        self.bucket, self.host, self.port = bucket, host, free_port()
        self._server: BaseWSGIServer | None = None
        self.start()
        self.client.create_bucket(Bucket=bucket)
        for key in self.keys():  # moto keeps what servers of other tests in this process were given
            self.client.delete_object(Bucket=bucket, Key=f"ftq/{key}")

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/ftq"

    @property
    def environment(self) -> dict[str, str]:
        return {**KEYS, "AWS_ENDPOINT_URL": f"http://{self.host}:{self.port}", "FTQ_ARTIFACTS_URL": self.url}

    @property
    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )

    def start(self) -> None:
        app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(self.host, self.port, app, threaded=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Refuse connections; what it holds stays."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def take(self, files: bool) -> None:
        """Let who uses it put files there, or only read them."""
        if files:
            self.client.delete_bucket_policy(Bucket=self.bucket)
            return
        which = {"Action": ["s3:PutObject"], "Resource": [f"arn:aws:s3:::{self.bucket}/*"]}
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", **which}]}
        self.client.put_bucket_policy(Bucket=self.bucket, Policy=json.dumps(policy))

    def keys(self, prefix: str = "") -> list[str]:
        """The objects' keys below the URL."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"ftq/{prefix}")
        return [one["Key"].removeprefix("ftq/") for page in pages for one in page.get("Contents", [])]

    def close(self) -> None:
        self.client.delete_bucket_policy(Bucket=self.bucket) if self._server else None
        self.stop()


@contextmanager
def own_server(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketServer]:
    """A server for one test, to stop and start; the environment names it."""
    server = BucketServer(bucket)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.close()


class FreezingServer(BucketServer):
    """As BucketServer, in a process of its own: frozen, it takes connections and answers nothing."""

    def start(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", self.host, "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: listens(self.port))

    def freeze(self) -> None:
        freeze(self._process.pid)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
