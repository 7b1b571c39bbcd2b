"""Starts the built binary once for all tests, as a user would."""

import base64
import hashlib
import hmac
import json
import os
import random
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
BINARY = os.environ.get("SLOTCAST_BIN", str(REPOSITORY / "target/debug/slotcast"))
SECRET = "the end-to-end tests share this one secret"


def sign_token(user, **claims):
    """A token of a user, good for an hour, made from the contract alone."""

    def encode(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    claims = {"id_utente": user, "exp": int(time.time()) + 3600, **claims}
    signed = encode({"alg": "HS256", "typ": "JWT"}) + b"." + encode(claims)
    signature = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


class Slotcast:
    """A running node, and HTTP calls to it."""

    def __init__(self, folder, settings=None):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "slotcast.log"
        self.spaces = iter(range(1, 1_000_000))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [BINARY, "serve"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    "PATH": os.environ["PATH"],
                    "PORT": str(self.port),
                    "JWT_SECRET": SECRET,
                    "SLOTCAST_ADMIN_ADDR": "127.0.0.1:0",
                    "SLOTCAST_DATA_DIR": str(folder / "data"),
                    "SLOTCAST_DRAIN_TIME": "5",
                    **(settings or {}),
                },
            )

    def wait_until_ready(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"slotcast ended with {self.process.returncode}:\n{self.log.read_text()}")
            try:
                if self.call("GET", "/readyz")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"slotcast is not ready:\n{self.log.read_text()}")

    def call(self, method, path, body=None, token=None):
        """One HTTP call: its status and its JSON, or its text where it is none."""
        headers = {"content-type": "application/json"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text

    def staff(self, method, path, body=None):
        """One HTTP call of staff, which must succeed: its `data`."""
        status, answer = self.call(method, path, body, sign_token(900, ruolo="gestore"))
        assert status == 200, answer
        return answer.get("data")

    def fresh_space(self):
        """The number of a space that no other test has."""
        return next(self.spaces)

    def stop(self):
        self.process.terminate()
        assert self.process.wait(timeout=30) == 0
        assert "panicked" not in self.log.read_text()


def free_port():
    """A port that nobody has, below those that the system gives to outgoing connections."""
    while True:
        port = random.randrange(15_000, 30_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


@pytest.fixture(scope="session")
def slotcast(tmp_path_factory):
    node = Slotcast(tmp_path_factory.mktemp("slotcast"))
    try:
        node.wait_until_ready()
        yield node
    finally:
        node.stop()
