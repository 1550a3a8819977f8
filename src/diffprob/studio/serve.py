"""The studio as a server of this machine."""

import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from diffprob.base.errors import InputError

HOST = "127.0.0.1"


def address(port: int, token: str) -> str:
    """Where it is opened."""
    return f"http://{HOST}:{port}/?token={token}"


def serve(folder: str | Path, port: int, announce: Callable[[str], None]) -> None:
    """Answer until it is interrupted; on this machine alone.

    Args:
        folder: whose runs are shown.
        port: 0: a free one.
        announce: is given the address, with a token that is new each time.

    Raises:
        InputError: no such folder, a port that is taken, or packages that are missing.
    """
    try:
        import uvicorn

        from diffprob.studio.app import studio
        from diffprob.studio.jobs import Jobs
    except ImportError as error:
        raise InputError(f"the studio needs {error.name}: pip install 'diffprob[studio]'") from error
    place = Path(folder)
    if not place.is_dir():
        raise InputError(f"{folder}: no such folder; one with runs in it would be right")
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except (OSError, OverflowError) as error:
        raise InputError(f"port {port} of this machine cannot be had ({error}); another one would be right") from error
    with listening:
        port, token = listening.getsockname()[1], secrets.token_urlsafe(32)
        jobs = Jobs()
        app = studio(place, (f"{HOST}:{port}", f"localhost:{port}"), token, jobs)
        settings = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, timeout_keep_alive=5)
        announce(address(port, token))
        try:
            uvicorn.Server(settings).run(sockets=[listening])
        finally:
            jobs.close()
