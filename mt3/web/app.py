"""The page's HTTP interface; every refusal is JSON `{"error": one line}`.

| request | answer |
| --- | --- |
| GET /, /assets/NAME | the page |
| GET /api/info | {"model", "version", "limits", "formats": [{"name", "suffix", "label"}]} |
| POST /api/jobs | body: the audio file; `X-File-Name`: its name, percent-encoded; 202 and the job |
| GET /api/jobs/ID | the job, see `JobStore.snapshot` |
| GET /api/jobs/ID/events | server-sent events: `state`, `notes`, then `done`, `failed` or `cancelled` |
| GET /api/jobs/ID/files/FORMAT | a file of the result |
| DELETE /api/jobs/ID | cancels and forgets the job; 204 |
"""

from __future__ import annotations

import contextlib
import mimetypes
from collections.abc import AsyncIterator, Iterable
from importlib import resources
from pathlib import PurePath
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import mt3
from mt3.web.event_stream import events_of, has_all, last_event
from mt3.web.jobs import Job
from mt3.web.refusals import Refusal, error_response
from mt3.web.security import Guard
from mt3.web.service import Service
from mt3.web.uploads import NAME_HEADER, receive_upload, shown_name

_PAGE = "index.html"


def make_app(service: Service, *, host: str, names: Iterable[str] = ()) -> Starlette:
    """The ASGI application; its lifespan is the service's.

    Args:
      service: what requests act on.
      host: the address that the server listens at.
      names: further host names that it is reached by.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with service.running():
            yield

    requests = _Requests(service)
    return Starlette(
        routes=[
            Route("/", requests.page),
            Route("/assets/{name}", requests.asset),
            Route("/api/info", requests.info),
            Route("/api/jobs", requests.add_job, methods=["POST"]),
            Route("/api/jobs/{id}", requests.job, methods=["GET"]),
            Route("/api/jobs/{id}", requests.forget_job, methods=["DELETE"]),
            Route("/api/jobs/{id}/events", requests.events),
            Route("/api/jobs/{id}/files/{format}", requests.file),
        ],
        middleware=[Middleware(Guard, host=host, names=tuple(names))],
        exception_handlers={
            Refusal: _refused,
            HTTPException: _http_error,
            ClientDisconnect: _disconnected,
            Exception: _internal_error,
        },
        lifespan=lifespan,
    )


class _Requests:
    """The handlers, as methods of the routes above."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store
        folder = resources.files("mt3.web") / "assets"
        # By name, so that no path of a request reaches the disk.
        self._assets = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}

    async def page(self, request: Request) -> Response:
        return self._asset(_PAGE)

    async def asset(self, request: Request) -> Response:
        return self._asset(request.path_params["name"])

    def _asset(self, name: str) -> Response:
        if name not in self._assets:
            raise Refusal(404, "there is no such page")
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(self._assets[name], headers={"Cache-Control": "no-cache"}, media_type=media_type)

    async def info(self, request: Request) -> Response:
        formats = [
            {"name": download.name, "suffix": download.suffix, "label": download.label}
            for download in self._service.downloads.values()
        ]
        return JSONResponse(
            {
                "model": self._service.model_name,
                "version": mt3.__version__,
                "limits": self._service.limits.public(),
                "formats": formats,
            }
        )

    async def add_job(self, request: Request) -> Response:
        client = request.client.host if request.client else ""
        name = shown_name(request.headers.get(NAME_HEADER))
        with self._store.place(client):
            upload = self._store.new_upload()
            await receive_upload(request, upload, self._service.limits)
            job = self._store.add(name, client, upload)
        self._service.submit(job)
        return JSONResponse(self._store.snapshot(job), 202, {"Location": f"/api/jobs/{job.id}"})

    async def job(self, request: Request) -> Response:
        return JSONResponse(self._store.snapshot(self._job(request)))

    async def forget_job(self, request: Request) -> Response:
        await self._service.forget(self._job(request))
        return Response(status_code=204)

    async def events(self, request: Request) -> Response:
        job = self._job(request)
        last = last_event(request.headers.get("last-event-id"))
        if has_all(job, last):
            return Response(status_code=204)  # which tells an EventSource not to come back
        return StreamingResponse(events_of(job, self._store, last), media_type="text/event-stream")

    async def file(self, request: Request) -> Response:
        job, format = self._job(request), request.path_params["format"]
        download = self._service.downloads.get(format)
        if download is None:
            raise Refusal(404, f"there is no such format; choose from {', '.join(self._service.downloads)}")
        path = await self._service.result(job, format)
        name = f"{PurePath(job.name).stem}{download.suffix}"
        return FileResponse(path, media_type=download.media_type, headers=_attachment(name))

    def _job(self, request: Request) -> Job:
        return self._store.get(request.path_params["id"])


def _attachment(name: str) -> dict[str, str]:
    """The header that names a download: in ASCII, and in full (RFC 6266, RFC 8187)."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in " ._-()") else "_" for c in name)
    return {
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    }


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(error.status_code, error.detail.lower(), dict(error.headers or {}))


async def _disconnected(request: Request, error: Exception) -> Response:
    return error_response(400, "the upload was broken off")  # nobody reads it


async def _internal_error(request: Request, error: Exception) -> Response:
    return error_response(500, "internal error")
