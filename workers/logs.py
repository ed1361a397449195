"""Structured logs for every process: one event a line, as JSON for machines or coloured text for people."""

import logging
import os
import sys
from typing import Annotated, Any, Literal

import structlog
from pydantic import BeforeValidator

from storage.secret_url import redacted

LogFormat = Literal["json", "text"]
LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    BeforeValidator(lambda level: level.upper() if isinstance(level, str) else level),
]


def configure_logging(role: str, *, form: LogFormat = "text", level: str = "INFO") -> None:
    """Send structlog's and the standard library's records to stderr in one form, each with the process's role.

    An exception comes with its traceback but without the values of variables, and no URL with its password.
    """

    def add_role(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        # uvicorn repeats its text with colours for a terminal.
        event.pop("color_message", None)
        return {"role": role, **event}

    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        add_role,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    plain = structlog.dev.plain_traceback  # structlog's own choice would print what every frame's variables hold
    renderers: list[structlog.types.Processor] = (
        [structlog.processors.format_exc_info, _redact_values, structlog.processors.JSONRenderer()]
        if form == "json"
        else [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain), _redact_line]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *renderers,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("celery.worker.strategy", "celery.app.trace", "httpx", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It warns of every byte that a client gets wrong; the answer tells the client.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def refuse(role: str, error: Exception) -> int:
    """Say in one line why a process does not start, before its settings could be read; its exit code."""
    configure_logging(role, form="json" if os.environ.get("FOVEA_LOG_FORMAT") == "json" else "text")
    structlog.get_logger().error("process.refused", reason=str(error))
    return 2


def _redact_values(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Before they are escaped for JSON, so that a password is found whatever is in it."""
    return {name: _redacted(value) for name, value in event.items()}


def _redacted(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(name): _redacted(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    return redacted(value if isinstance(value, str) else repr(value))


def _redact_line(_logger: object, _method: str, line: Any) -> Any:
    return redacted(line)
