"""Attacks through a browser and by the wire: names, tokens, other sites, sockets, and requests that never end."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from html.parser import HTMLParser
from pathlib import Path

import attacked
import browsing
import pytest
from attacked import HOME, clean
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from imagier.collection import Collection
from imagier.web import make_app
from imagier.web.guard import COOKIE, cookie_of

TOKEN = "quite a long token"
SOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
PAGES = ("/", "/map", "/search", "/try", "/label", "/jobs", "/organise", "/items/1", "/items/1/mask")
LONG = 30
"""Seconds in which a connection that does not come to its end must be closed."""


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Collection:
    return attacked.collection(tmp_path_factory.mktemp("attacked"))


@pytest.fixture(scope="module")
def folder(collection) -> Path:
    return collection.folder.parent


@pytest.fixture(scope="module")
def client(collection) -> Iterator[TestClient]:
    with attacked.alive(collection) as made:
        yield made


@pytest.fixture(scope="module")
def locked(collection) -> TestClient:
    """An app with a token, which its client does not show."""
    app = make_app(collection, token=TOKEN)
    return TestClient(app, base_url=HOME, raise_server_exceptions=False, follow_redirects=False)


@pytest.fixture(scope="module")
def routes(client) -> list[tuple[str, str]]:
    """Method and path of every route of the API."""
    paths = client.get("/api/v1/openapi.json").json()["paths"]
    return [(method.upper(), re.sub(r"{\w+}", "1", path)) for path, each in paths.items() for method in each]


# ---------------------------------------------------------------- who asks, and by which name


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example", "evil.example@127.0.0.1.evil", "[::2]"])
def test_another_name_is_refused_everywhere(client, routes, name):
    for method, path in [*routes, *(("GET", page) for page in PAGES), ("GET", "/static/api.js")]:
        answer = client.request(method, path, headers={"host": name})
        assert answer.status_code == 421, path
        assert len(answer.content) < 200
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(SOCKET, headers={"host": name}):
        pass


def test_what_a_proxy_would_say_is_not_believed(client):
    lies = {
        "x-forwarded-host": "evil.example", "x-forwarded-prefix": "/evil.example", "x-forwarded-proto": "gopher",
        "x-forwarded-for": "10.9.8.7", "forwarded": "host=evil.example;proto=gopher", "x-original-url": "/evil.example",
        "x-http-method-override": "DELETE", "x-ingress-path": "/evil.example", "x-script-name": "/evil.example",
    }  # fmt: skip
    for path in PAGES:
        answer = client.get(path, headers=lies)
        assert answer.status_code == 200
        assert "evil.example" not in answer.text
        assert "gopher" not in answer.text
    assert client.get("/static", headers=lies, follow_redirects=False).headers.get("location", "").count("evil") == 0


def test_without_the_token_there_is_only_the_way_in(locked, routes, folder):
    static = [
        f"/static/{path.name}" for path in (Path(attacked.__file__).parents[1] / "src/imagier/web/static").iterdir()
    ]
    assert len(static) > 10
    for method, path in [*routes, *(("GET", each) for each in (*PAGES, *static, "/api/v1/openapi.json", "/nothing"))]:
        if path == "/static/sign-in.css":
            continue
        for headers in (
            {}, {"authorization": "Bearer"}, {"authorization": f"Bearer {TOKEN}x"}, {"authorization": TOKEN},
            {"cookie": f"{COOKIE}={TOKEN}"}, {"cookie": f"{COOKIE}={cookie_of('other')}"}, {"cookie": f"{COOKIE}="},
            {"cookie": f"{COOKIE}={cookie_of(TOKEN)[:-1]}"}, {"cookie": "=;;;\xff"}, {"x-token": TOKEN},
        ):  # fmt: skip
            answer = locked.request(method, path, headers={k: v.encode("latin-1") for k, v in headers.items()})
            assert answer.status_code == 401, (path, headers)
            clean(answer.content, folder)
        assert locked.request(method, f"{path}?token={TOKEN}").status_code == 401
    page = locked.get("/", headers={"accept": "text/html"})
    assert (page.status_code, page.headers["location"]) == (303, "/sign-in")
    for trick in (
        "/sign-in/../api/v1", "/sign-in/", "/SIGN-IN", "/sign-in%2f..%2fapi%2fv1", "//sign-in",
        "/static/sign-in.css/../api.js",
    ):  # fmt: skip
        answer = locked.get(trick)
        assert answer.status_code in (401, 404), trick
    with pytest.raises(WebSocketDisconnect), locked.websocket_connect(SOCKET):
        pass


def test_the_way_in_gives_a_cookie_that_scripts_do_not_see(locked):
    wrong = locked.post("/sign-in", data={"token": "<script>alert(1)</script>"})
    assert wrong.status_code == 401
    assert "<script" not in wrong.text
    assert "set-cookie" not in wrong.headers
    right = locked.post("/sign-in", data={"token": TOKEN})
    assert (right.status_code, right.headers["location"]) == (303, "/")
    cookie = right.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert locked.get("/api/v1").status_code == 200
    locked.cookies.clear()
    assert locked.get("/api/v1").status_code == 401
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        answer = locked.post("/sign-in", data={"token": TOKEN}, headers=headers)
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


ELSEWHERE = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1.evil.example"},
    {"origin": "http://127.0.0.1:81"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": HOME, "sec-fetch-site": "cross-site"},
]


@pytest.mark.parametrize("headers", ELSEWHERE)
def test_another_sites_page_changes_nothing(client, routes, headers):
    changing = [each for each in routes if each[0] != "GET"]
    assert {method for method, _ in changing} == {"POST", "PUT", "DELETE"}
    for method, path in changing:
        answer = client.request(method, path, headers=headers, json={})
        assert answer.status_code == 403, (method, path)
    if "origin" in headers:
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(SOCKET, headers=headers):
            pass
    for _, path in routes:
        assert "access-control-allow-origin" not in client.get(path, headers=headers).headers


# ---------------------------------------------------------------- what pages hold


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("path", ["/nothing", "/items/1/%3Cscript%3Ealert(7431)%3C%2Fscript%3E", "/static/nothing.js"])
def test_what_is_not_there_is_said_and_repeated_nowhere(client, folder, path):
    """To a browser by a page of the server's own that leads back, to others in JSON."""
    for accepted in ("text/html", "*/*"):
        answer = client.get(path, headers={"accept": accepted})
        assert answer.status_code == 404
        attacked.clean(answer.content, folder)
        assert b"7431" not in answer.content
        page = accepted == "text/html" and not path.startswith("/static")
        assert answer.headers["content-type"].startswith("text/html") == page
        assert not page or b'<a href="/">' in answer.content


@pytest.mark.parametrize("path", [*PAGES, "/items/%3Cscript%3Ealert(7431)"])
def test_pages_run_nothing_but_their_own_scripts(client, folder, path):
    nonces = set()
    for _ in range(2):
        answer = client.get(path)
        policy = dict(each.strip().split(" ", 1) for each in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["form-action"] == "'self'"
        assert "'unsafe-inline'" not in policy["script-src"]
        assert not re.search(r"https?:|\*|data:", policy["script-src"])
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["referrer-policy"] == "same-origin"
        (nonce,) = re.findall(r"'nonce-([\w-]{20,})'", policy["script-src"])
        nonces.add(nonce)
        elements = Elements(answer.text).found
        scripts = [attributes for tag, attributes in elements if tag == "script"]
        assert scripts
        assert {each.get("nonce") for each in scripts} == {nonce}
        for tag, attributes in elements:
            assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
            for name in ("src", "href", "action"):
                assert not (attributes.get(name) or "").lower().startswith(("javascript:", "http:", "https:", "//"))
        assert "<script>alert(7431)" not in answer.text
        clean(answer.content, folder)
    assert len(nonces) == 2


def test_a_page_that_fails_does_not_say_how(client, folder, monkeypatch, caplog):
    from imagier.web.pages import views

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(f"a secret of {folder}")

    monkeypatch.setattr(views, "View", broken)
    answer = client.get("/map")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "RuntimeError" not in answer.text
    clean(answer.content, folder)
    assert "a secret of" in caplog.text


# ---------------------------------------------------------------- by the wire


@pytest.fixture(scope="module")
def port(collection) -> Iterator[int]:
    """Of a server in a process of its own."""
    with browsing.served(collection.folder) as address:
        yield int(address.rpartition(":")[2])


def asked(port: int, path: str = "/api/v1") -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=LONG)) as connection:
        connection.request("GET", path)
        with connection.getresponse() as answer:
            answer.read()
            return answer.status


def raw(port: int, data: bytes) -> bytes:
    """What comes back until the connection is closed, or nothing more comes."""
    with socket.create_connection(("127.0.0.1", port), timeout=LONG) as made:
        made.sendall(data)
        got = b""
        while piece := made.recv(65536):
            got += piece
        return got


OUT = [
    "../app.py", "..%2fapp.py", "%2e%2e/app.py", "%2e%2e%2fapp.py", "....//app.py", "..\\app.py", "..%5capp.py",
    "/etc/passwd", "%2fetc%2fpasswd", "../../../../../../../../etc/passwd", "%252e%252e%252fapp.py", "..;/app.py",
    "a%00/../app.py", "../static/../app.py", ".", "%c0%ae%c0%ae/app.py",
]  # fmt: skip


@pytest.mark.parametrize("trick", OUT)
def test_files_lead_out_nowhere(port, folder, trick):
    import nicegui

    own = f"/_nicegui/{nicegui.__version__}"
    for base in ("/static/", f"{own}/static/", f"{own}/libraries/", f"{own}/components/", f"{own}/resources/x/",
                 f"{own}/esm/vue/", f"{own}/dynamic_resources/", "/", "/api/v1/"):  # fmt: skip
        head = f"GET {base}{trick} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        told = raw(port, head.encode())
        status = int(told.split(b" ", 2)[1])
        assert status in (400, 403, 404, 422) or (trick == "." and status in (200, 307)), (base, told[:300])
        assert b"make_app" not in told
        clean(told, folder)


def test_requests_that_never_end_are_closed_while_others_are_served(port):
    upgrade = (
        f"GET {SOCKET} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    ).encode()
    begun = [
        b"",
        b"GET /api/v1 HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ",
        (
            b"POST /api/v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            b"Content-Length: 1000\r\n\r\n--x"
        ),
        b"POST /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        (
            b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: 100\r\n\r\ntoken="
        ),
        upgrade,
        upgrade + b"\r\nX-A: ",
    ]
    since = time.monotonic()
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=LONG + 5)) for _ in begun]
        for each, data in zip(slow, begun, strict=True):
            each.sendall(data)
        drip = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=LONG + 5))
        drip.sendall(b"GET /api/v1 HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ")
        alive = True
        while alive and time.monotonic() - since < LONG + 5:  # a letter now and then buys no time
            try:
                drip.sendall(b"a")
                time.sleep(0.5)
            except OSError:
                alive = False
            assert asked(port) == 200
        assert not alive
        for each in slow:
            told = each.recv(1000)
            assert told == b"" or b" 408 " in told.splitlines()[0], told
        assert time.monotonic() - since < LONG
    assert asked(port) == 200


def test_bloated_and_crooked_heads_are_refused(port, folder):
    line = b"GET /api/v1 HTTP/1.1\r\n"
    host = b"Host: 127.0.0.1\r\n"
    many = b"".join(b"X-%d: y\r\n" % number for number in range(10_000))
    for data in (
        line + host + many + b"\r\n",
        line + host + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n" + host + b"\r\n",
        line + b"\r\n",
        line + host + host + b"\r\n",
        line + host + b"Content-Length: 5\r\nContent-Length: 6\r\nConnection: close\r\n\r\nabcde",
        b"POST /api/v1/jobs HTTP/1.1\r\n" + host + b"Content-Length: -1\r\nConnection: close\r\n\r\n",
        b"POST /api/v1/jobs HTTP/1.1\r\n" + host + b"Content-Length: 999999999999\r\nConnection: close\r\n\r\n",
        b"POST /api/v1/jobs HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n",
        b"GET http://evil.example/api/v1 HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(100) + b"\r\n\r\n",
        b"GET /api/v1\r\nX: 1 HTTP/1.1\r\n\r\n",
        line + host + b"X: a\rb\nc\r\nConnection: close\r\n\r\n",
    ):
        try:
            told = raw(port, data)
        except ConnectionResetError:
            told = b""
        assert told == b"" or 400 <= int(told.split(b" ", 2)[1]) < 500, (data[:80], told[:200])
        clean(told, folder)
    assert asked(port) == 200


def test_a_crowd_of_idle_connections_shuts_nobody_out(port):
    with ExitStack() as stack:
        for number in range(400):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=LONG)).sendall(b"GET / HT")
            if number % 40 == 0:
                assert asked(port) == 200
        assert asked(port) == 200


def test_sockets_of_other_sites_and_huge_messages_are_closed(port, folder):
    address = f"ws://127.0.0.1:{port}{SOCKET}"
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{port + 1}"):
        with pytest.raises(WebSocketException), connect(address, origin=origin):
            pass
    for message in ("4" + "x" * 3_000_000, b"\0" * 3_000_000):
        with connect(address, origin=f"http://127.0.0.1:{port}", max_size=None) as made:
            made.recv(timeout=LONG)
            with pytest.raises(WebSocketException):
                until_closed(made, message)
    for message in (
        "40", '42["handshake",{}]', '42["event",{"client_id":1}]', "4" + "[" * 100_000, "nonsense", "451-[{}]",
        '42["javascript_response",[]]', '42["log",{"client_id":"x"}]', b"\xff\xfe",
    ):  # fmt: skip
        with connect(address, origin=f"http://127.0.0.1:{port}") as made:
            made.recv(timeout=LONG)
            made.send("40/_nicegui_ws/,")
            made.send(message)
        assert asked(port) == 200


def until_closed(made: ClientConnection, message: str | bytes) -> None:
    made.send(message)
    while True:
        made.recv(timeout=LONG)


def test_the_server_says_nothing_of_itself(port):
    told = raw(port, b"GET /api/v1 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    assert b"uvicorn" not in told.lower()
    assert b"\r\nserver:" not in told.lower().partition(b"\r\n\r\n")[0]
    listening = subprocess.run(["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=False)
    if listening.returncode == 0 and listening.stdout:
        assert {line.split()[3].rpartition(":")[0] for line in listening.stdout.splitlines()} == {"127.0.0.1"}
