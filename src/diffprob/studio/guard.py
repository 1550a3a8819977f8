"""Who may ask the studio, and for how much: the door before every page."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

MOST_BYTES = 32 * 2**20  # of a request
SECONDS = 30.0  # for all of a request to arrive
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class TooMuch(Exception):
    """More bytes than a request may have, or slower ones."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Guard:
    """An ASGI application before another one: what it lets through comes from a page of this studio and has its token.

    A name that another site's owner lets point here (DNS rebinding) is no host of ours. A page of another origin can
    send no form here: its Origin is refused, and the cookie is not sent along. Every answer forbids scripts, pictures
    and requests from anywhere else.

    Args:
        app: which answers.
        hosts: that a request may be for, "127.0.0.1:8000".
        token: that opens the door, once, as ``/?token=...``; a cookie keeps it.
    """

    def __init__(self, app: Any, hosts: tuple[str, ...], token: str) -> None:
        self.app, self.hosts, self.token = app, hosts, token
        self.cookie = f"diffprob-studio-{hosts[0].rpartition(':')[2]}"

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Let through, or answer with one line."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        if scope["type"] != "http":
            return
        headers = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        began = False

        async def watched(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                own = {name for name, _ in HEADERS}
                kept = [(name, value) for name, value in message.get("headers", []) if name.lower() not in own]
                message = {**message, "headers": [*kept, *HEADERS]}
            await send(message)

        try:
            await self.app(scope, _limited(receive), watched)
        except TooMuch as error:
            if not began:
                await _answer(send, error.status, error.text)

    def _refusal(self, scope: Mapping[str, Any], headers: list[tuple[bytes, str]]) -> tuple[Any, ...] | None:
        def of(name: bytes) -> list[str]:
            return [value for key, value in headers if key == name]

        hosts, origins = of(b"host"), of(b"origin")
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            return 421, f"this studio is {self.hosts[0]}, and answers to no other name"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "GET, HEAD and POST are known here"
        if scope["method"] == "GET" and scope["path"] == "/":
            tokens = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
            if len(tokens) == 1 and self._is_right(tokens[0]):
                kept = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
                return 303, "", ((b"location", b"/"), (b"set-cookie", kept.encode()))
        if not any(self._is_right(value) for value in self._cookies(of(b"cookie"))):
            return 403, "open the address that `diffprob studio` printed: it has the token of this studio"
        if scope["method"] == "POST" and (len(origins) != 1 or origins[0].lower() != f"http://{hosts[0].lower()}"):
            return 403, "this came from another page than the studio's"
        lengths = of(b"content-length")
        if any(not (value.isascii() and value.isdigit()) or int(value) > MOST_BYTES for value in lengths):
            return 413, f"at most {MOST_BYTES // 2**20} MiB at a time"
        return None

    def _is_right(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("latin-1", "replace"), self.token.encode())

    def _cookies(self, headers: list[str]) -> list[str]:
        values = []
        for header in headers:
            try:
                cookies = SimpleCookie(header)
            except CookieError:
                continue
            values += [cookies[self.cookie].value] if self.cookie in cookies else []
        return values


def _limited(receive: Receive) -> Receive:
    size, deadline, is_whole = 0, None, False

    async def limited() -> Message:
        nonlocal size, deadline, is_whole
        if is_whole:  # only whether the client is still there
            return await receive()
        clock = asyncio.get_running_loop().time
        deadline = clock() + SECONDS if deadline is None else deadline
        try:
            message = await asyncio.wait_for(receive(), max(0.0, deadline - clock()))
        except TimeoutError as error:
            raise TooMuch(408, f"a request has {SECONDS:g} seconds to arrive") from error
        size += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        if size > MOST_BYTES:
            raise TooMuch(413, f"at most {MOST_BYTES // 2**20} MiB at a time")
        return message

    return limited


async def _answer(send: Send, status: int, text: str, more: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    body = f"{text}\n".encode()
    length = ((b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": [*length, *more, *HEADERS]})
    await send({"type": "http.response.body", "body": body})
