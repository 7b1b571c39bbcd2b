"""The receiver of docs/webhooks.md, run as printed with the PyPI package `standardwebhooks`: it verifies and prints each message."""

import base64
import os
import re
import subprocess
import sys
import threading
import time

import pytest
from conftest import REPOSITORY, Slotcast, free_port, sign_token
from test_stock_client import DATE

SECRET = "whsec_" + base64.b64encode(b"thirty-two bytes of a secret, or so").decode()


class Receiver:
    """The sample, but for its port."""

    def __init__(self, folder):
        guide = (REPOSITORY / "docs/webhooks.md").read_text()
        (sample,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
        self.port = free_port()
        assert "8080" in sample
        script = folder / "receiver.py"
        script.write_text(sample.replace("8080", str(self.port)))
        self.lines = []
        self.process = subprocess.Popen(
            [sys.executable, str(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"PATH": os.environ["PATH"], "WEBHOOK_SECRET": SECRET},
        )
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def stop(self):
        self.process.kill()
        self.process.wait(timeout=30)


@pytest.fixture
def receiver(tmp_path):
    receiver = Receiver(tmp_path)
    yield receiver
    receiver.stop()


@pytest.fixture
def node(receiver, tmp_path):
    settings = {
        "SLOTCAST_WEBHOOK_URL": f"http://127.0.0.1:{receiver.port}/",
        "SLOTCAST_WEBHOOK_SECRET": SECRET,
        "SLOTCAST_WEBHOOK_TYPES": "slot.held,slot.booked,slot.updated",
    }
    node = Slotcast(tmp_path, settings)
    node.wait_until_ready()
    yield node
    node.stop()


def test_the_sample_verifies_and_prints_each_message_once(receiver, node):
    space, token = node.fresh_space(), sign_token("anna")
    body = {"idSpazio": space, "sedeId": 1, "date": DATE}
    expected = []
    for act, kind in [("hold", "slot.held"), ("book", "slot.booked")]:
        status, answer = node.call("POST", f"/api/slots/{act}", {**body, "slots": [1, 2]}, token)
        assert status == 200, answer
        expected.append(f"{kind} {answer['data']['epoch']}-1-{space}-{answer['data']['version']} anna [1, 2]")
    updated = node.staff("PUT", "/api/slots/3", {**body, "status": "blocked"})
    expected.append(f"slot.updated {updated['epoch']}-1-{space}-{updated['version']} None [3]")
    deadline = time.monotonic() + 60
    while len(receiver.lines) < len(expected) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert receiver.lines == expected
