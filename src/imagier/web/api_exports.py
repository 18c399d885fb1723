"""REST, /api/v1/exports: what an export job has written, to take away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as InPath
from starlette.responses import StreamingResponse

from imagier.web.api import REFUSALS, ROOT
from imagier.workflows.browse import Browser
from imagier.workflows.exported import exported

PIECE = 2**20


def router(browser: Browser) -> APIRouter:
    """The routes of one collection."""
    routes = APIRouter(prefix=ROOT, responses=REFUSALS)

    @routes.get(
        "/exports/{job}",
        response_class=StreamingResponse,
        responses={200: {"content": {"application/octet-stream": {}}}},
    )
    def take(
        job: Annotated[
            str, InPath(max_length=40, description="The export's id.", examples=["20260102-030405-6789-9f3a"])
        ],
    ) -> StreamingResponse:
        """The file that a job of kind export wrote; a ZIP where it wrote several."""
        name, file = exported(browser.collection, job)

        def pieces() -> Iterator[bytes]:
            with file:
                while piece := file.read(PIECE):
                    yield piece

        headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
        return StreamingResponse(pieces(), media_type="application/octet-stream", headers=headers)

    return routes
