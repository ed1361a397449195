"""`/docs`: the API's description to read and try, from files of this installation: no other host is asked for any.

Of `fastapi-swagger` only these files are used: it keeps the newest Swagger UI in a wheel.
"""

from functools import partial
from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, Response

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Fovea: the API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<div id="api"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = """\
SwaggerUIBundle({
  url: "openapi.json", dom_id: "#api", deepLinking: true, displayRequestDuration: true, filter: true,
  validatorUrl: null,
});
"""
# Swagger UI sets styles by its script, which is no inline style; its pictures are data.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
KEPT = {"Cache-Control": "private, max-age=3600"}


def install_documentation(app: FastAPI) -> None:
    """Add the page and its files; they are no calls, so that the description does not list them."""
    app.add_route("/docs", _page)
    app.add_route("/docs/start.js", _start)
    app.add_route("/docs/swagger-ui-bundle.js", partial(_file, "swagger-ui-bundle.js", "text/javascript"))
    app.add_route("/docs/swagger-ui.css", partial(_file, "swagger-ui.css", "text/css"))


async def _page(_: Request) -> Response:
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})


async def _start(_: Request) -> Response:
    return Response(START, media_type="text/javascript")


async def _file(name: str, media_type: str, _: Request) -> Response:
    found = files("fastapi_swagger.resources") / name
    return FileResponse(str(found), media_type=media_type, headers=KEPT)
