"""Requests that are answered with an error: a status and one line that says what to do."""

from __future__ import annotations

from starlette.responses import JSONResponse


class Refusal(Exception):
    """A request that is not granted.

    Attributes:
      status: of HTTP.
      retry_seconds: when to try again, where that may help.
    """

    def __init__(self, status: int, message: str, retry_seconds: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_seconds = retry_seconds

    def response(self) -> JSONResponse:
        """The answer: `{"error": one line}`."""
        headers = {} if self.retry_seconds is None else {"Retry-After": str(self.retry_seconds)}
        return error_response(self.status, str(self), headers)


def error_response(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error as every error of the server looks."""
    return JSONResponse({"error": " ".join(message.split())}, status, headers)
