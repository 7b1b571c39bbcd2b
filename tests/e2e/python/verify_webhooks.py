"""Verifies messages with the PyPI package `standardwebhooks`: a line of JSON each on stdin, with its headers and its body.

Says at the end how many it has verified, and fails at the first one that it cannot.
"""

import json
import sys

from standardwebhooks import Webhook

webhook = Webhook(sys.argv[1])
count = 0
for line in sys.stdin:
    message = json.loads(line)
    assert webhook.verify(message["body"], message["headers"]) == json.loads(
        message["body"]
    )
    count += 1
print("verified", count)
