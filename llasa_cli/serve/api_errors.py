"""Errors in OpenAI's form: every exception that a request can end with becomes one response."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException

from llasa_cli.errors import AudioError, LlasaError, UsageError
from llasa_cli.serve.service import QueueFull, ShuttingDown
from llasa_cli.text.unicode import whole_characters

RETRY_AFTER_S = 2


class ApiError(Exception):
    """An error in OpenAI's form."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        error: LlasaError | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.error = error

    @classmethod
    def of(cls, error: LlasaError) -> ApiError:
        """The same error with its status."""
        if isinstance(error, QueueFull):
            return cls(429, str(error), "queue_full")
        if isinstance(error, ShuttingDown):
            return cls(503, str(error), "shutting_down")
        if isinstance(error, UsageError | AudioError):
            return cls(400, str(error), "invalid_value", error=error)
        return cls(500, str(error), error=error)

    def content(self) -> dict[str, Any]:
        """OpenAI's error object; `hint` and `exit_code` are for `llasa --server`."""
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status, "invalid_request_error")
        if self.status >= 500:
            kind = "server_error"
        found: dict[str, Any] = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        if self.error is not None:
            found |= {"hint": self.error.hint, "exit_code": self.error.exit_code}
        return {name: whole_characters(value) if isinstance(value, str) else value for name, value in found.items()}

    def response(self) -> JSONResponse:
        headers = {"Retry-After": str(RETRY_AFTER_S)} if self.status in (429, 503) else {}
        return JSONResponse({"error": self.content()}, self.status, headers)


class ErrorObject(BaseModel):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None
    hint: str | None = None
    exit_code: int | None = None


class ErrorBody(BaseModel):
    """The body of a response with an error."""

    error: ErrorObject


ERROR_SCHEMAS: dict[int | str, Any] = {
    status: {"model": ErrorBody, "description": "An error."} for status in ("4XX", "5XX")
}


class Disconnected(Exception):
    """The client disconnected before the response began."""


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0] if error.errors() else {}
    where = ".".join(str(part) for part in first.get("loc", ()) if part != "body")
    message = f"{where}: {first.get('msg', 'invalid')}".strip(": ")
    return ApiError(400, message, "invalid_value", where or None).response()


async def _error_response(request: Request, error: Exception) -> Response:
    if isinstance(error, ApiError):
        return error.response()
    if isinstance(error, LlasaError):
        return ApiError.of(error).response()
    if isinstance(error, Disconnected):
        return Response(status_code=499)
    if isinstance(error, StarletteHTTPException):
        return ApiError(error.status_code, str(error.detail)).response()
    return ApiError(500, f"A fault of the server: {type(error).__name__}.").response()


ERROR_HANDLERS: dict[type[Exception], Any] = {
    RequestValidationError: _invalid,
    **dict.fromkeys((ApiError, LlasaError, Disconnected, StarletteHTTPException, Exception), _error_response),
}
