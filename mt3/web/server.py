"""Runs the app until a signal stops it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from mt3.web.app import make_app
from mt3.web.folders import private_folder
from mt3.web.limits import Limits
from mt3.web.service import Service

if TYPE_CHECKING:
    from mt3.inference.transcriber import Transcriber

_GRACE_SECONDS = 5  # that requests under way have when the server is stopped
_MOST_CONNECTIONS = 1000


def serve(
    transcriber: Transcriber,
    *,
    limits: Limits,
    folder: Path,
    model_name: str,
    host: str = "127.0.0.1",
    port: int = 8765,
    names: Iterable[str] = (),
    started: Callable[[str], None] | None = None,
) -> None:
    """Serves the page; returns after a graceful stop by `Server.should_exit` or a signal.

    A signal (SIGINT, SIGTERM) is raised again once everything is stopped and removed.

    Args:
      transcriber: used by one thread alone.
      limits: what is taken on.
      folder: where the server makes a private folder for the time that it runs.
      model_name: what the page calls the model.
      host: address to listen at.
      port: 0 for any that is free.
      names: further host names that the server is reached by.
      started: called with the page's address once the server listens.

    Raises:
      OSError: the address cannot be listened at, or the folder not be made.
    """
    listener = listen(host, port)
    with listener, private_folder(folder) as private:
        service = Service(transcriber, limits, private, model_name)
        server = StoppableServer(service, host, names)
        if started is not None:
            started(address_of(listener))
        server.run(sockets=[listener])


class StoppableServer(uvicorn.Server):
    """A server whose streams of events end when it is stopped, rather than keep it."""

    def __init__(self, service: Service, host: str, names: Iterable[str] = ()) -> None:
        self._service = service
        super().__init__(
            uvicorn.Config(
                make_app(service, host=host, names=names),
                http="h11",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                # The client is who connects: a header may say anything.
                proxy_headers=False,
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.store.close()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address.

    Raises:
      OSError: it cannot, with the address and the remedy.
    """
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        return socket.create_server(address[:2], family=family, backlog=256)
    except OSError as error:
        # Python adds the address, in words of its own.
        reason = (error.strerror or str(error)).partition(" (")[0]
        raise OSError(
            f"cannot listen at {host}:{port} ({reason}): choose another --port or --host"
        ) from error


def address_of(listener: socket.socket) -> str:
    """The page's address for a browser of this machine."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
