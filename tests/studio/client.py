"""A client that speaks ASGI: it can send what no browser would."""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

HOST, TOKEN = "127.0.0.1:8765", "a-token-of-this-studio"
COOKIE = {"cookie": f"diffprob-studio-8765={TOKEN}"}
ORIGIN = {"origin": f"http://{HOST}"}


class Answer(NamedTuple):
    """Status, headers and body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def ask(
    app: Any,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    known: bool = True,
    more: tuple[tuple[str, str], ...] = (),
    ends: bool = True,
) -> Answer:
    """One request; ``known``: with the cookie, and for POST with the origin, of this studio; ``ends``: it is whole."""
    own = {"host": HOST, **(COOKIE if known else {}), **(ORIGIN if known and method == "POST" else {})}
    pairs = [*{**own, **(headers or {})}.items(), *more]
    return asyncio.run(_ask(app, path, method, pairs, body, ends))


async def _ask(app: Any, path: str, method: str, headers: list[tuple[str, str]], body: bytes, ends: bool) -> Answer:
    plain, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": plain,
        "raw_path": plain.encode("latin-1", "replace"),
        "root_path": "",
        "query_string": query.encode("latin-1", "replace"),
        "headers": [
            (name.encode(), value.encode("latin-1", "replace")) for name, value in headers if value is not None
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8765),
    }
    sent: list[dict[str, Any]] = []
    pieces = [body[k : k + 2**20] for k in range(0, len(body), 2**20)] or [b""]

    async def receive() -> dict[str, Any]:
        if not pieces:
            await asyncio.sleep(3600)
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces) or not ends}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start = next(message for message in sent if message["type"] == "http.response.start")
    named = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], named, b"".join(message.get("body", b"") for message in sent))


def form(fields: Mapping[str, str], file: tuple[str, bytes] | None = None) -> tuple[dict[str, str], bytes]:
    """A form's headers and body, with a file where there is one."""
    mark, parts = "the-mark-between", []
    for name, value in fields.items():
        parts.append(f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode())
    if file is not None:
        head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{file[0]}"\r\n\r\n'
        parts.append(head.encode() + file[1] + b"\r\n")
    return {"content-type": f"multipart/form-data; boundary={mark}"}, b"".join(parts) + f"--{mark}--\r\n".encode()
