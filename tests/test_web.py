"""The REST API on a real collection: what it gives against what the collection holds, and what it refuses."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import drawn
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from imagier.cli import main
from imagier.collection import Collection
from imagier.types import SettingError
from imagier.web import api, make_app
from imagier.web.serve import serve
from imagier.workflows import browse
from imagier.workflows.browse import Browser
from imagier.workflows.run import run

STEPS = [
    {"segment": {"model": "nuclei", "least": 20}},
    {"embed": {"encoder": "classical"}},
    {"reduce": {"method": "pca", "components": 8}},
    {"cluster": {"k": 3}},
    {"duplicates": {}},
]
HOME = "http://127.0.0.1"


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Collection:
    """12 drawn pictures of three kinds, one of 16 bits, and one file that is none."""
    folder = tmp_path_factory.mktemp("web")
    images = drawn.fill(folder / "images")
    deep = (np.arange(64 * 48).reshape(48, 64) % 4096).astype(np.uint16)
    drawn.save(images / "deep" / "ramp.png", deep)
    (images / "deep" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return run(images, into=folder / "out", pipeline=STEPS, report=False, threads=2)


@pytest.fixture(scope="module")
def client(collection) -> TestClient:
    return TestClient(make_app(collection), base_url=HOME, raise_server_exceptions=False)


def ids(client: TestClient) -> list[str]:
    return [each["id"] for each in client.get("/api/v1/items").json()["items"]]


# ---------------------------------------------------------------- what it gives


def test_about_says_what_there_is(client, collection):
    told = client.get("/api/v1").json()
    assert (told["items"], told["files"], told["failed"]) == (13, 14, 1)
    assert told["version"] == collection.version
    assert told["columns"]["group"] == "number"
    assert told["columns"]["far"] == "boolean"
    assert not {"thumbnail", "embedding", "masks", "path", "paths"} & set(told["columns"])


def test_a_page_is_what_the_collection_holds(client, collection):
    table = collection.read(["id", "name", "group", "width", "x"]).to_pandas()
    told = client.get("/api/v1/items", params={"sort": "-group,name", "limit": 5, "offset": 3, "columns": "id,group"})
    expected = table.sort_values(["group", "name"], ascending=[False, True])
    assert told.json()["total"] == len(table)
    assert told.json()["items"] == expected[["id", "group"]].iloc[3:8].to_dict("records")
    assert client.get("/api/v1/items", params={"limit": 0}).json() == {"items": [], "total": 13}
    assert client.get("/api/v1/items", params={"offset": 99}).json() == {"items": [], "total": 13}


@pytest.mark.parametrize(
    ("where", "fits"),
    [
        (["group=1"], lambda t: t["group"] == 1),
        (["group = 0|2"], lambda t: t["group"].isin([0, 2])),
        (["group!=1"], lambda t: t["group"] != 1),
        (["group=0.5"], lambda t: t["group"] < 0),
        (["name~DISC"], lambda t: t["name"].str.contains("disc")),
        (["depth=uint16"], lambda t: t["depth"] == "uint16"),
        (["parent="], lambda t: t["parent"].isna()),
        (["parent!="], lambda t: t["parent"].notna()),
        (["width>=60", "width<100"], lambda t: (t["width"] >= 60) & (t["width"] < 100)),
        (["far=yes"], lambda t: t["far"]),
        (["far!=true"], lambda t: ~t["far"]),
        (["label_folder=deep", "group>-1"], lambda t: (t["label_folder"] == "deep") & (t["group"] > -1)),
    ],
)
def test_conditions_filter(client, collection, where, fits):
    table = collection.read(["id", "name", "group", "width", "depth", "parent", "far", "label_folder"]).to_pandas()
    told = client.get("/api/v1/items", params={"where": where, "columns": "id", "limit": 1000}).json()
    assert [each["id"] for each in told["items"]] == table["id"][fits(table).astype(bool)].tolist()
    assert told["total"] == len(told["items"])


def test_a_number_as_it_is_shown_is_the_number(client):
    for row in client.get("/api/v1/items", params={"columns": "id,x,y"}).json()["items"]:
        for sign in ("=", ">=", "<="):
            where = [f"x{sign}{row['x']}", f"y{sign}{row['y']}"]
            told = client.get("/api/v1/items", params={"where": where, "columns": "id"}).json()["items"]
            assert {"id": row["id"]} in told
    for far in ("16777217", "9007199254740993", "1e39", "-1e400"):
        assert client.get("/api/v1/items", params={"where": f"x<{far}"}).status_code == 200


def test_columns_that_are_being_replaced_are_not_seen(collection, tmp_path):
    copy = Collection.open(shutil.copytree(collection.folder, tmp_path / "copy"))
    copy.table(copy.state.items).add_columns(pa.schema([pa.field("group~new", pa.int32())]))
    client = TestClient(make_app(copy), base_url=HOME)
    assert "group~new" not in client.get("/api/v1").json()["columns"]
    assert client.get("/api/v1/items", params={"columns": "group"}).json()["total"] == len(copy)


def test_nothing_tells_where_the_files_lie(client, collection):
    item = ids(client)[0]
    for path in (
        "",
        "/items",
        f"/items/{item}",
        f"/items/{item}/similar",
        "/search?text=a",
        "/items?where=path~a",
        "/clusters",
    ):
        assert str(collection.folder.parent) not in client.get(f"/api/v1{path}").text


def test_arrow_is_given_to_who_accepts_it(client, collection):
    told = client.get(
        "/api/v1/items",
        params={"columns": "id,width", "sort": "id"},
        headers={"accept": "application/vnd.apache.arrow.stream"},
    )
    table = pa.ipc.open_stream(told.content).read_all()
    assert table.equals(collection.read(["id", "width"]))
    assert told.headers["x-total"] == "13"


def test_pictures_are_the_items_own(client, collection):
    for row in collection.read(["id", "thumbnail", "width", "height", "depth", "masks"]).to_pylist():
        small = client.get(f"/api/v1/items/{row['id']}/thumbnail")
        assert small.content == row["thumbnail"]
        assert small.headers["content-type"] == "image/jpeg"
        whole = Pillow.open(io.BytesIO(client.get(f"/api/v1/items/{row['id']}/image").content))
        assert whole.size == (row["width"], row["height"])
        own = collection.pixels(row["id"])
        if row["depth"] == "uint8":
            grey = np.asarray(whole.convert("L"), int) - np.asarray(Pillow.fromarray(own).convert("L"), int)
            assert np.abs(grey).mean() < 8  # a JPEG of it
        else:  # 12 bits are spread over what is shown
            assert np.asarray(whole).max() > 200
        half = Pillow.open(io.BytesIO(client.get(f"/api/v1/items/{row['id']}/image", params={"side": 20}).content))
        assert max(half.size) == 20
        again = client.get(f"/api/v1/items/{row['id']}/thumbnail", headers={"if-none-match": small.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        mask = client.get(f"/api/v1/items/{row['id']}/masks/masks")
        assert mask.content == row["masks"]
        assert mask.headers["content-type"] == "image/png"


def test_what_is_like_an_item_or_an_image_is_found(client, collection):
    row = collection.read(["id", "path", "name"]).to_pylist()[0]
    similar = client.get(f"/api/v1/items/{row['id']}/similar", params={"n": 5}).json()
    assert len(similar["hits"]) == 5
    assert row["id"] not in [hit["id"] for hit in similar["hits"]]
    assert row["path"] not in json.dumps(similar)
    sent = client.post(
        "/api/v1/search", params={"n": 3}, files={"image": ("../../a.png", Path(row["path"]).read_bytes())}
    )
    assert sent.json()["hits"][0]["id"] == row["id"]
    assert sent.json()["hits"][0]["score"] == pytest.approx(1, abs=1e-3)
    words = client.get("/api/v1/search", params={"text": "a disc"})
    assert words.status_code in (400, 409)
    assert "text" in words.json()["detail"]


def test_clusters_and_receipts_are_the_collections(client, collection):
    (clustering,) = client.get("/api/v1/clusters").json()
    assert clustering["column"] == "group"
    assert len(clustering["facts"]["groups"]) == 3
    steps = [each["step"] for each in client.get("/api/v1/receipts").json()]
    assert steps == list(collection.receipts())


def test_what_changes_is_seen(collection, monkeypatch):
    monkeypatch.setattr(browse, "FRESH", 0.0)
    folder = collection.folder.parent / "images"
    fresh = TestClient(make_app(collection), base_url=HOME)
    before = fresh.get("/api/v1/items").json()["total"]
    drawn.save(folder / "late.png", np.full((40, 40, 3), 99, np.uint8))
    try:
        run(into=collection.folder, report=False, threads=1)
        assert seen(fresh, before + 1)
        late = fresh.get("/api/v1/items", params={"where": "name=late.png"}).json()["items"][0]["id"]
        assert fresh.get(f"/api/v1/items/{late}/thumbnail").status_code == 200
    finally:
        (folder / "late.png").unlink()
        run(into=collection.folder, report=False, threads=1)
    assert seen(fresh, before)


def seen(client: TestClient, total: int) -> bool:
    """Whether a page comes to tell of so many items."""
    for _ in range(100):
        if client.get("/api/v1/items").json()["total"] == total:
            return True
        time.sleep(0.1)
    return False


def test_a_collection_that_goes_away_is_shown_as_it_was_and_said(collection, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(browse, "FRESH", 0.0)
    copy = shutil.copytree(collection.folder, tmp_path / "copy")
    client = TestClient(make_app(Collection.open(copy)), base_url=HOME, raise_server_exceptions=False)
    item = ids(client)[0]
    shutil.rmtree(copy)
    for path in ("/api/v1/items", f"/api/v1/items/{item}", f"/api/v1/items/{item}/thumbnail", "/api/v1"):
        told = client.get(path)
        assert told.status_code in (200, 409), told.text
        assert "Traceback" not in told.text


def test_a_collection_without_items_has_empty_pages(tmp_path):
    client = TestClient(make_app(Collection.create(tmp_path / "empty")), base_url=HOME)
    assert client.get("/api/v1").json()["items"] == 0
    assert client.get("/api/v1/items").json() == {"items": [], "total": 0}
    assert client.get("/api/v1/items/none/thumbnail").status_code == 404
    assert client.get("/api/v1/clusters").json() == []


# ---------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/v1/items?where=grup=1", 400, "Did you mean group"),
        ("/api/v1/items?where=group", 400, "such as verdict=bad"),
        ("/api/v1/items?where=group=bad", 400, "it is a number"),
        ("/api/v1/items?where=box=1", 400, "several values"),
        ("/api/v1/items?where=group~1", 400, "holds no text"),
        ("/api/v1/items?sort=embedding", 400, "unknown column"),
        ("/api/v1/items?columns=thumbnail", 400, "unknown column"),
        ("/api/v1/items?limit=100000", 422, "limit"),
        ("/api/v1/items?offset=-1", 422, "offset"),
        ("/api/v1/items/nobody", 404, "there is no item"),
        ("/api/v1/items/nobody/similar", 404, "there is no item"),
        ("/api/v1/items/nobody/masks/masks", 404, "there is no item"),
        ("/api/v1/nothing", 404, "Not Found"),
    ],
)
def test_what_does_not_fit_is_said(client, path, status, says):
    told = client.get(path)
    assert told.status_code == status
    assert says in told.json()["detail"]


def test_only_masks_are_given_as_masks(client):
    item = ids(client)[0]
    for column in ("thumbnail", "embedding", "id", "objects"):
        told = client.get(f"/api/v1/items/{item}/masks/{column}")
        assert (told.status_code, "unknown mask" in told.text) == (400, True)


def test_a_file_that_has_gone_is_said_and_nothing_else_is_read(collection, client, tmp_path):
    row = next(row for row in collection.read(["id", "path", "name"]).to_pylist() if row["name"].startswith("disc"))
    path = Path(row["path"])
    kept = path.read_bytes()
    secret = tmp_path / "secret.png"
    drawn.save(secret, np.full((30, 30, 3), 200, np.uint8))
    try:
        path.unlink()
        path.symlink_to(secret)  # what lies there now is another file
        told = client.get(f"/api/v1/items/{row['id']}/image")
        assert told.status_code == 409
        assert "gone or has changed" in told.json()["detail"]
        assert str(collection.folder.parent) not in told.text
    finally:
        path.unlink()
        path.write_bytes(kept)


TRICKS = ["../collection.json", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd", "..\\..\\x", "%00"]


@pytest.mark.parametrize("trick", TRICKS)
def test_no_path_leads_out(client, trick):
    for place in ("/api/v1/items/{}", "/api/v1/items/{}/thumbnail", "/api/v1/items/{}/image", "/api/v1/{}", "/{}"):
        told = client.get(place.format(trick))
        assert told.status_code in (400, 404)
        assert "root:" not in told.text
    item = ids(client)[0]
    assert client.get(f"/api/v1/items/{item}/masks/{trick}").status_code in (400, 404)
    for name in ("where", "sort", "columns"):
        assert client.get("/api/v1/items", params={name: trick}).status_code == 400


def bomb() -> bytes:
    """A PNG that says it has 60,000 x 60,000 pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<html><script>alert(1)</script></html>",
        b"\x89PNG\r\n\x1a\n<script>alert(1)</script>",
        b"PK\x03\x04" + bytes(200),
        bomb(),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(client, data):
    told = client.post("/api/v1/search", files={"image": ("a.png", data)})
    assert told.status_code in (400, 409)
    assert "Traceback" not in told.text
    assert "<script>" not in told.text
    assert not re.search(r"/tmp|imagier-", told.text)


def test_too_large_a_body_is_refused_told_or_not(collection):
    client = TestClient(make_app(collection, most_bytes=10_000), base_url=HOME)
    assert client.post("/api/v1/search", files={"image": ("a.png", bytes(20_000))}).status_code == 413

    def unsaid():
        yield b'--x\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(30):
            yield bytes(1000)

    told = client.post("/api/v1/search", content=unsaid(), headers={"content-type": "multipart/form-data; boundary=x"})
    assert told.status_code == 413
    assert client.get("/api/v1").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "[::2]", "", "a b", "[x"]
)
def test_another_name_is_refused(client, host):
    assert client.get("/api/v1", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "LOCALHOST", "[::1]:9"])
def test_its_own_names_are_served(client, host):
    assert client.get("/api/v1", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_sites_page_changes_nothing(client, headers):
    assert client.post("/api/v1/search", files={"image": ("a.png", b"x")}, headers=headers).status_code == 403


def test_a_token_is_demanded_and_taken(collection):
    client = TestClient(make_app(collection, token="açb"), base_url=HOME)
    assert client.get("/api/v1").status_code == 401
    for wrong in ("Bearer x", "Bearer ", "açb", "Basic açb"):
        assert client.get("/api/v1", headers={"authorization": wrong.encode()}).status_code == 401
    assert client.get("/api/v1", headers={"authorization": "Bearer açb".encode()}).status_code == 200
    assert client.get("/api/v1/openapi.json").status_code == 401


def test_every_answer_tells_a_browser_to_allow_nothing(client):
    for path in ("/api/v1", "/api/v1/items/nobody", f"/api/v1/items/{ids(client)[0]}/thumbnail", "/x"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
    assert client.get("/api/v1", headers={"host": "evil.example"}).headers["x-content-type-options"] == "nosniff"


def test_what_nobody_foresaw_is_logged_and_not_shown(client, monkeypatch, caplog):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret of the machine")

    monkeypatch.setattr(Browser, "page", broken)
    told = client.get("/api/v1/items")
    assert told.status_code == 500
    assert "secret" not in told.text
    assert "a secret of the machine" in caplog.text


SMALL = st.text(max_size=30)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.lists(SMALL, max_size=3), sort=SMALL, columns=st.none() | SMALL, limit=st.integers(), item=SMALL)
def test_nothing_that_is_asked_breaks_it(client, where, sort, columns, limit, item):
    params = {"where": where, "sort": sort, "limit": limit} | ({} if columns is None else {"columns": columns})
    assert client.get("/api/v1/items", params=params).status_code in (200, 400, 422)
    for last in ("", "/thumbnail", "/image", "/similar", "/masks/masks"):
        path = "/api/v1/items/" + "".join(f"%{byte:02x}" for byte in item.encode()) + last
        assert client.get(path).status_code < 500


CONDITIONS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["group", "name", "far", "x", "width", "parent", "quality"]),
    st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "~"]),
    st.sampled_from(["", "1", "0|1", "-1e400", "nan", "true", "a|b", "9" * 30, "é", "\x00", "%", "(", "0.5"]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.lists(CONDITIONS, max_size=3))
def test_conditions_fit_or_are_refused(client, where):
    assert client.get("/api/v1/items", params={"where": where}).status_code in (200, 400)


def test_searches_that_wait_leave_room_for_others(collection, monkeypatch):
    begun, going = threading.Semaphore(0), threading.Event()

    def slow(*_: object, **__: object) -> None:
        begun.release()
        going.wait(20)
        raise SettingError("late")

    monkeypatch.setattr(api, "search", slow)
    found: list[int] = []
    with TestClient(make_app(collection), base_url=HOME, raise_server_exceptions=False) as client:

        def ask() -> None:
            found.append(client.get("/api/v1/search", params={"text": "a"}).status_code)

        threads = [threading.Thread(target=ask) for _ in range(api.QUEUE + 5)]
        for each in threads:
            each.start()
        assert begun.acquire(timeout=20)
        for _ in range(200):
            if found == [503] * 5:
                break
            time.sleep(0.05)
        assert found == [503] * 5
        assert client.get("/api/v1/items").status_code == 200
        going.set()
        for each in threads:
            each.join()
    assert sorted(found) == [400] * api.QUEUE + [503] * 5


def test_openapi_describes_every_route_with_examples(client):
    told = client.get("/api/v1/openapi.json").json()
    assert set(told["paths"]) >= {
        "/api/v1", "/api/v1/items", "/api/v1/items/{item}", "/api/v1/items/{item}/thumbnail",
        "/api/v1/items/{item}/image", "/api/v1/items/{item}/masks/{column}", "/api/v1/items/{item}/similar",
        "/api/v1/search", "/api/v1/clusters", "/api/v1/receipts",
    }  # fmt: skip
    for path in told["paths"].values():
        for operation in path.values():
            assert operation["summary"]
            assert operation["description"]
            assert {"400", "404", "421"} <= set(operation["responses"])
    assert told["components"]["schemas"]["Items"]["properties"]["items"]["examples"]


# ---------------------------------------------------------------- a real server


@pytest.fixture
def server(collection):
    """`imagier serve` in a process of its own: its port."""
    command = [sys.executable, "-m", "imagier.cli", "serve", str(collection.folder), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        line = process.stdout.readline()
        yield int(re.search(r":(\d+)/ ", line)[1])
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=30)[0]
    assert "Traceback" not in rest
    assert process.returncode in (0, 130)


def asked(port: int, path: str = "/api/v1") -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", path)
        with connection.getresponse() as answer:
            answer.read()
            return answer.status


def test_many_clients_browse_and_search_at_once(server, collection):
    some = collection.read(["id"])["id"].to_pylist()
    found: list[int] = []

    def client(number: int) -> None:
        for at in range(6):
            item = some[(number + at) % len(some)]
            kinds = ("", "/thumbnail", "/image", "/similar")
            found.append(asked(server, f"/api/v1/items/{item}{kinds[(number + at) % 4]}"))
            found.append(asked(server, f"/api/v1/items?where=group={at % 3}&sort=-name"))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [200] * 240


def test_slow_and_bloated_requests_are_closed_while_others_are_served(server):
    begun = time.monotonic()
    opened = ExitStack()
    connect = partial(socket.create_connection, ("127.0.0.1", server), timeout=40)
    slow = [opened.enter_context(connect()) for _ in range(10)]
    slow[0].sendall(b"GET /api/v1 HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ")
    slow[1].sendall(
        b"POST /api/v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        b"Content-Length: 1000\r\n\r\n--x"
    )
    many = opened.enter_context(connect())
    many.sendall(b"GET /api/v1 HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(10_000)))
    assert many.recv(100)[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 431")
    assert asked(server) == 200
    for each in slow:
        told = each.recv(1000)
        assert told == b"" or b" 408 " in told.splitlines()[0]
    assert 1 < time.monotonic() - begun < 30
    assert asked(server) == 200
    opened.close()


def test_an_address_beyond_this_machine_demands_a_token(collection):
    told = CliRunner().invoke(main, ["serve", str(collection.folder), "--host", "0.0.0.0"])
    assert told.exit_code == 1
    assert "give a --token" in told.output
    with pytest.raises(SettingError, match="give a --token"):
        serve(collection, host="example.com", port=0, token=None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = CliRunner().invoke(main, ["serve", str(collection.folder), "--port", str(taken.getsockname()[1])])
    assert told.exit_code == 1
    assert "cannot be had" in told.output
    assert "--port 0" in told.output


def test_a_folder_that_is_no_collection_is_told(tmp_path):
    told = CliRunner().invoke(main, ["serve", str(tmp_path)])
    assert told.exit_code == 1
    assert os.fspath(tmp_path) in told.output
