"""Calls of the Hugging Face hub's packages, with an end to their patience.

Without a network they try again and again, which takes half a minute, and behind a proxy that swallows what it is sent
minutes. So one request shows whether the hub is there; where it does not answer they get to know, and what is in their
cache is read at once.
"""

import os
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

SECONDS = 5.0  # in which the hub must answer
ENDPOINT = "https://huggingface.co"
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
_TIMES = {"HF_HUB_ETAG_TIMEOUT": "5", "HF_HUB_DOWNLOAD_TIMEOUT": "10"}  # seconds for one answer


def installed(package: str) -> bool:
    """Whether a package is there, without importing it."""
    return sys.modules[package] is not None if package in sys.modules else find_spec(package) is not None


def answers(endpoint: str, seconds: float = SECONDS) -> bool:
    """Whether a server answers, whatever it says, within ``seconds``; through the proxies of the environment."""
    results: list[bool] = []

    def request() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=seconds).close()
        except urllib.error.HTTPError:
            results.append(True)
        except urllib.error.URLError as error:
            # certificates may be known to those packages alone
            results.append(isinstance(error.reason, ssl.SSLError))
        except (OSError, ValueError):
            results.append(False)
        else:
            results.append(True)

    # In a thread: looking up a name has no time limit of its own.
    thread = threading.Thread(target=request, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(results and results[0])


@contextmanager
def patience() -> Iterator[bool]:
    """Settings under which the hub's packages are imported and called; whether the hub answers.

    They read their settings when they are first imported, so that the import belongs into the block. What the user has
    set stays as it is, and so does the environment afterwards.
    """
    offline = any(os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"} for name in _OFFLINE)
    online = not offline and answers(os.environ.get("HF_ENDPOINT") or ENDPOINT)
    wanted = dict(_TIMES) | ({} if online else dict.fromkeys(_OFFLINE, "1"))
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield online
    finally:
        for name in ours:
            os.environ.pop(name, None)
