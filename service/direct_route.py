"""A route that is called without FastAPI's machinery where that has nothing to do: the hot path's.

For each request FastAPI solves what the route depends on and makes contexts for what it may have to close; of the
gateway's time for an image that was two fifths. A request that a route reads by itself goes straight to its
endpoint; every other one, and the description in OpenAPI, is FastAPI's.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send


class DirectRoute(APIRoute):
    """A route whose endpoint is a coroutine that makes a Response, and whose dependencies take a request alone."""

    def arguments(self, scope: Scope) -> Mapping[str, Any] | None:
        """What the endpoint is called with besides `request`; None for what FastAPI is to read and judge."""
        raise NotImplementedError

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        arguments = self.arguments(scope) if scope["method"] in (self.methods or ()) else None
        if arguments is None:
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive, send)
        for depends in self.dependencies:
            if depends.dependency:
                await depends.dependency(request)
        response: Response = await self.endpoint(request=request, **arguments)
        await response(scope, receive, send)
