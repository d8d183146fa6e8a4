"""A real redis-server for tests: on a free port of the loopback, with a directory of its own, gone afterwards.

`redis_server` is a fixture; `with RedisServer("--maxmemory", "5mb") as server` starts one with options.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import pytest
import redis

if TYPE_CHECKING:
    from typing_extensions import Self

PATIENCE = 20.0


class RedisServer:
    """A server that can be killed, paused and started again at its port.

    Attributes:
        url: how to reach it.
        directory: its own, and what tests put there.
    """

    def __init__(self, *options: str, port: int | None = None, password: str = "", tls: bool = False) -> None:
        self._options = options
        self._directory = tempfile.TemporaryDirectory(prefix="memograd-redis-")
        self.directory = Path(self._directory.name)
        self.port = free_port() if port is None else port
        self.tls = tls
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        who = f":{self._password}@" if self._password else ""
        more = f"?ssl_ca_certs={self.directory}/cert.pem" if self.tls else ""
        return f"redis{'s' if self.tls else ''}://{who}127.0.0.1:{self.port}/0{more}"

    @property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, socket_timeout=PATIENCE, protocol=2)

    def start(self) -> RedisServer:
        server = which("redis-server")
        assert server, "there is no redis-server: sudo apt-get install redis-server, or brew install redis"
        if self.tls:
            self._certify()
        for _ in range(5):
            arguments = [server, *self._arguments()]
            self._process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if self._answers():
                return self
            self.stop()
            self.port = free_port()  # another was quicker
        raise AssertionError("redis-server does not start")

    def _arguments(self) -> list[str]:
        where = ["--port", str(self.port)]
        if self.tls:
            where = [
                "--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no",
                "--tls-cert-file", f"{self.directory}/cert.pem", "--tls-key-file", f"{self.directory}/key.pem",
            ]  # fmt: skip
        secret = ["--requirepass", self._password] if self._password else []
        return [
            *where, *secret, "--bind", "127.0.0.1", "--dir", str(self.directory), "--save", "", "--appendonly", "no",
            *self._options,
        ]  # fmt: skip

    def _certify(self) -> None:
        if (self.directory / "cert.pem").exists():
            return
        openssl = which("openssl")
        assert openssl, "there is no openssl: sudo apt-get install openssl"
        subprocess.run(
            [
                openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2",
                "-keyout", str(self.directory / "key.pem"), "-out", str(self.directory / "cert.pem"),
            ],
            check=True, capture_output=True,
        )  # fmt: skip

    def _answers(self) -> bool:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self._process is not None and self._process.poll() is None:
            with suppress(redis.RedisError, OSError), self.client as client:
                return bool(client.ping())
            time.sleep(0.01)
        return False

    def stop(self) -> None:
        """End it as kill -9 does: nothing is saved."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    def pause(self) -> None:
        """Let it answer nobody, while its port takes connections."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._directory.cleanup()


def wait_for(happened):
    """Look until something has happened."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def redis_server():
    """A server of this test's own."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def shared_server():
    """A server of this file's own: every test takes another namespace, or flushes it."""
    with RedisServer() as server:
        yield server
