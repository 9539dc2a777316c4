"""The one seam to the network: an httpx transport that carries requests with aiohttp, and what its failures mean.

httpx keeps the types, aiohttp moves the bytes: with 32 in flight five to six times as many small calls a second as httpx's stock
transport (tests/bench/bench_transport.py). Requests go straight to the transport, so nothing follows redirects or keeps cookies
behind our back. Proxy variables of the environment are honoured; credentials in a netrc file are not, they would go out unseen.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import cast
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from yarl import URL

Transport = httpx.AsyncBaseTransport
PIECE = 1 << 16  # bytes of an answer handed over at once


def open_transport(connections: int = 32) -> Transport:
    """A transport with at most `connections` per process. Close it with `aclose()`."""
    return _Transport(connections)


async def fetch(url: str, *, seconds: float = 10, most: int = 1 << 20) -> str:
    """A small public document, as text. Raises OSError when it cannot be had within `seconds` and `most` bytes, ValueError for no text."""
    transport, body = open_transport(1), bytearray()
    try:
        limits = {"timeout": {"connect": seconds, "read": seconds}}
        request = httpx.Request("GET", url, headers={"Accept-Encoding": "identity"}, extensions=limits)
        response = await transport.handle_async_request(request)
        async with aclosing(response):
            if response.status_code != 200:
                raise ConnectionError(f"status {response.status_code}")
            async for piece in cast("httpx.AsyncByteStream", response.stream):
                body += piece
                if len(body) > most:
                    raise ConnectionError("too large")
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise ConnectionError(str(error)) from error
    finally:
        await transport.aclose()
    return body.decode()


def never_sent(error: httpx.RequestError) -> bool:
    """Whether the connection itself failed, so that the service cannot have seen the request."""
    return isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))


class _Transport(Transport):
    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[str, str] = {}

    def _proxy(self, url: httpx.URL) -> str | None:
        return None if not self._proxies or proxy_bypass(url.host) else self._proxies.get(url.scheme)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._session is None:
            self._proxies = getproxies()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=15),
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=1 << 18,
                auto_decompress=False,
            )
        try:
            body: bytes | httpx.AsyncByteStream | httpx.SyncByteStream | None = request.content or None
        except httpx.RequestNotRead:
            body = request.stream
        limits = request.extensions.get("timeout", {})
        with _failures():
            response = await self._session.request(
                request.method,
                URL(str(request.url), encoded=True),  # as built: yarl would undo the %2C that is data, no separator
                headers=request.headers,
                data=body,
                allow_redirects=False,
                proxy=self._proxy(request.url),
                timeout=aiohttp.ClientTimeout(sock_connect=limits.get("connect"), sock_read=limits.get("read")),
            )
        return httpx.Response(response.status, headers=list(response.raw_headers), stream=_Body(response))

    async def aclose(self) -> None:
        if self._session:
            await self._session.close()


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _failures():
            async for piece in self._response.content.iter_chunked(PIECE):
                yield piece

    async def aclose(self) -> None:
        self._response.release()  # closes the connection when the body was not read to its end


@contextmanager
def _failures() -> Iterator[None]:
    """aiohttp's exceptions as httpx's; only their names are kept, the texts may quote what was sent."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx.ConnectTimeout("no connection in time") from error
    except (aiohttp.ServerTimeoutError, TimeoutError) as error:
        raise httpx.ReadTimeout("no answer in time") from error
    except aiohttp.ClientConnectorError as error:
        raise httpx.ConnectError("no connection") from error
    except aiohttp.InvalidURL as error:
        raise httpx.UnsupportedProtocol("no such address") from error
    except aiohttp.ClientError as error:
        raise httpx.ReadError(type(error).__name__) from error
