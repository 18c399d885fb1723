"""The web skin over workflows: a REST API on a collection. Needs the extra `web`.

app = make_app(collection)          # ASGI, for any server
imagier serve out/                  # the same, by uvicorn on this machine's own address
"""

from imagier.web.app import make_app

__all__ = ["make_app"]
