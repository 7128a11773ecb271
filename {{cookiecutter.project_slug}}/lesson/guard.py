"""Lets only this machine's own pages in, and tells the browser how little the page needs."""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """An ASGI middleware: a foreign host or origin gets nothing, every answer has HEADERS."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if is_ours(headers):
            await self.app(scope, receive, send_with_headers)
        elif scope["type"] == "websocket":
            await WebSocketClose(1008)(scope, receive, send)  # before it is accepted: 403
        else:
            sentence = "Only its own page may ask; open it as http://127.0.0.1:8000/lesson"
            await PlainTextResponse(sentence, 403)(scope, receive, send_with_headers)


def is_ours(headers: Headers) -> bool:
    """Return whether a request goes to this machine by name and comes from a page of it.

    Only a name with a dot can be pointed here by a stranger's DNS (rebinding). Codespaces says in
    X-Forwarded-Host which name the browser uses; a page cannot set that header without asking.
    """
    host = headers.get("host", "")
    if not is_local(urlsplit(f"//{host}").hostname or ""):
        return False
    origin = headers.get("origin")  # a browser sends it with each POST and each socket
    ours = {host, headers.get("x-forwarded-host", host)}
    return origin is None or urlsplit(origin).netloc in ours


def is_local(name: str) -> bool:
    """Return whether `name` is an address, a name without a dot, or one of GitHub Codespaces."""
    if "." not in name or name.endswith((".localhost", ".app.github.dev")):
        return bool(name)
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
