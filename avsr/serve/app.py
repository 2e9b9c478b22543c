"""The server over HTTP: the websocket, the web page, health and metrics."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.base import RequestResponseEndpoint

from avsr.serve.connection import serve_client
from avsr.serve.logs import log
from avsr.serve.service import Service

PAGE = Path(__file__).parent / "page"
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "Permissions-Policy": "camera=(self), microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def create_app(service: Service, *, allowed_origins: Collection[str] = ()) -> FastAPI:
    """Put ``service`` on the web: ``/`` the page, ``/ws``, ``/healthz``, ``/metrics``. The app closes the service.

    Websockets of web pages are taken from this server's own page and from ``allowed_origins``
    ("https://captions.example"); programs that are no browsers send no origin.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def add_headers(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers.update(SECURITY_HEADERS)
        return response

    @app.get("/healthz")
    async def health(request: Request) -> JSONResponse:
        facts: dict[str, str | int] = {"status": "ok" if service.is_healthy else "failed"}
        if service.is_authorised(_bearer(request)):  # the load is told to authorised clients only
            facts |= {"sessions": service.num_sessions, "max_sessions": service.limits.max_sessions}
        return JSONResponse(facts, status_code=200 if service.is_healthy else 503)

    @app.get("/metrics")
    async def metrics(request: Request) -> PlainTextResponse:
        if not service.is_authorised(_bearer(request)):
            return PlainTextResponse("the metrics need the token: Authorization: Bearer TOKEN\n", status_code=401)
        return PlainTextResponse(service.metrics.render(), media_type="text/plain; version=0.0.4")

    @app.websocket("/ws")
    async def websocket(websocket: WebSocket) -> None:
        origin = websocket.headers.get("origin")
        if origin is not None and not is_trusted(origin, websocket.headers.get("host", ""), allowed_origins):
            service.metrics.add("avsr_origins_refused_total")
            log("origin_refused", origin=origin[:200])
            await websocket.close(1008)  # before it is accepted: HTTP 403
            return
        if service.num_connections >= service.limits.max_connections:
            service.metrics.add("avsr_connections_refused_total")
            await websocket.send_denial_response(PlainTextResponse("too many connections\n", status_code=503))
            return
        await serve_client(websocket, service)

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else None


def is_trusted(origin: str, host: str, allowed_origins: Collection[str]) -> bool:
    """Whether a web page of ``origin`` may use the server that it reached under the name ``host``.

    Its own page may, if its name is localhost or an IP address: a page elsewhere can give itself any other name, and
    have that name lead here (DNS rebinding).
    """
    if origin in allowed_origins:
        return True
    try:
        address = urlsplit(origin)
        if address.scheme not in ("http", "https") or address.netloc != host or address.hostname is None:
            return False
        return address.hostname == "localhost" or bool(ipaddress.ip_address(address.hostname))
    except ValueError:
        return False
