"""Attacks on what is asked and sent: each is refused in a sentence or comes to nothing, and tells nothing."""

from __future__ import annotations

import csv
import io
import json
import struct
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import attacked
import drawn
import numpy as np
import pytest
from attacked import SCRIPT, SECRET, clean, outside, png, zipped
from fastapi.testclient import TestClient
from PIL import Image as Pillow

from imagier import images
from imagier.collection import Collection

LONG = 30
"""Seconds in which whatever is sent must be refused, or done."""


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Collection:
    return attacked.collection(tmp_path_factory.mktemp("attacked"))


@pytest.fixture(scope="module")
def folder(collection) -> Path:
    """Of the collection, its sources and the secret beside them."""
    return collection.folder.parent


@pytest.fixture(scope="module")
def client(collection) -> Iterator[TestClient]:
    with attacked.alive(collection) as made:
        yield made


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """The one thing that is timed: an attack that takes longer has succeeded."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < 4 * LONG


def ids(client: TestClient, where: str = "name~disc") -> list[str]:
    return [each["id"] for each in client.get("/api/v1/items", params={"where": where}).json()["items"]]


def tried(client: TestClient, *files: tuple[str, bytes]) -> dict:
    """A trial of the built-in model, ended."""
    put = client.post("/api/v1/trials", files=[("image", each) for each in files], data={"model": "nuclei"})
    assert put.status_code == 202, put.text
    for _ in range(10 * LONG):
        told = client.get(f"/api/v1/trials/{put.json()['id']}").json()
        if told["state"] not in ("waiting", "running"):
            return told
        time.sleep(0.1)
    raise AssertionError(told)


# ---------------------------------------------------------------- texts, in every place of every route

TEXTS = {
    "up": "../../../../../../etc/passwd",
    "beside": "../secret.txt",
    "coded": "%2e%2e%2f%2e%2e%2fsecret.txt",
    "absolute": "/etc/passwd",
    "file": "file:///etc/passwd",
    "windows": "..\\..\\secret.txt",
    "nul": "a\0../secret.txt",
    "long": "x" * 5000,
    "unicode": "‮﷽💣é",
    "half": "\ud800",
    "script": SCRIPT.decode(),
    "option": "--into=/etc",
    "template": "{{7*7}}${7*7}#{7*7}%n%s",
    "formula": "=cmd|'/c calc'!A0",
    "number": "9" * 400,
}


@pytest.mark.slow
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_no_text_leads_out_or_breaks_anything(client, folder, text):
    before = outside(folder)
    known = {"item": ids(client)[0], "column": "group"}
    asked = 0
    for each in attacked.attempts(client.get("/api/v1/openapi.json").json(), text, known):
        answer = client.request(**each)
        asked += 1
        assert answer.status_code < 500, (each, answer.text)
        clean(answer.content, folder)
        assert not answer.headers["content-type"].startswith("text/html") if answer.content else True
        if answer.status_code == 202:
            client.delete(f"/api/v1/trials/{answer.json().get('id', answer.json().get('job'))}")
    assert asked > 50
    assert outside(folder) == before
    assert client.get("/api/v1").status_code == 200


NESTED = {
    "lists": b"[" * 100_000,
    "objects": b'{"a":' * 50_000,
    "number": b'{"items": [' + b"9" * 6000 + b'], "label": null, "author": "a"}',
    "nan": b'{"kind": "run", "settings": {"cluster.k": NaN}}',
    "infinite": b'{"kind": "run", "settings": {"cluster.k": 1e999}}',
    "deep setting": b'{"kind": "run", "settings": {"cluster.k": ' + b"[" * 900 + b"]" * 900 + b"}}",
    "twice": b'{"kind": "undo", "kind": "run", "settings": {"\xff": 1}}',
    "huge label": b'{"items": ["a"], "label": "' + b"x" * 3_000_000 + b'", "author": "a"}',
    "many items": b'{"label": "a", "author": "a", "items": [' + b'"a",' * 200_000 + b'"a"]}',
    "no text": b"\xff\xfe\x00",
    "nothing": b"",
}


@pytest.mark.parametrize("body", NESTED.values(), ids=NESTED)
def test_bodies_that_are_none_are_refused(client, folder, body):
    for method, path in [
        ("POST", "/items"), ("POST", "/labels"), ("POST", "/jobs"),
        ("POST", "/organise/plan"), ("PUT", "/clusters/group/1"),
    ]:  # fmt: skip
        answer = client.request(method, f"/api/v1{path}", content=body, headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500, (path, answer.text[:500])
        assert len(answer.content) < 10_000
        clean(answer.content, folder)


# ---------------------------------------------------------------- what is sent as an image


BOMBS = {
    "png": attacked.png_of(60_000, 60_000),
    "wide png": attacked.png_of(2**31 - 1, 1),
    "tiff": attacked.tiff_of(200_000, 200_000),
    "huge tiff": attacked.tiff_of(2**32 - 1, 2**32 - 1),
    "gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\2\0;",
    "jpeg": b"\xff\xd8\xff\xc0\0\x11\x08" + struct.pack(">HH", 65500, 65500) + b"\3\1\x22\0\2\x11\1\3\x11\1\xff\xd9",
    "bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 1000, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 1, 1, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_pixel_bombs_are_refused(client, folder, data):
    begun = time.monotonic()
    item = ids(client)[0]
    answers = [
        client.post("/api/v1/search", files={"image": ("a", data)}),
        client.put(f"/api/v1/items/{item}/mask", params={"author": "eve"}, content=data),
    ]
    assert {answer.status_code for answer in answers} <= {400, 409, 422}, [answer.text for answer in answers]
    answers.append(client.post("/api/v1/predict", files={"image": ("a", data)}, data={"model": "nuclei"}))
    assert answers[-1].status_code in (200, 400)
    if answers[-1].status_code == 200:
        assert [(each["outcome"], bool(each["reason"])) for each in answers[-1].json()["images"]] == [("failed", True)]
    for answer in answers:
        clean(answer.content, folder)
    assert time.monotonic() - begun < LONG


def test_many_pages_are_refused_before_they_are_read(client, folder, tmp_path):
    path = drawn.save_pages(tmp_path / "many.tif", [np.zeros((256, 256), np.uint8)] * 2000)
    begun = time.monotonic()
    answer = client.post("/api/v1/predict", files={"image": ("a.tif", path.read_bytes())}, data={"model": "nuclei"})
    assert "more than" in answer.json()["images"][0]["reason"]
    assert time.monotonic() - begun < LONG


def test_a_ring_of_pages_comes_to_an_end(client, folder):
    begun = time.monotonic()
    for path in ("search", "predict"):
        data = attacked.tiff_of(30, 30, ring=True)
        answer = client.post(f"/api/v1/{path}", files={"image": ("a.tif", data)})
        assert answer.status_code in (200, 400)
        clean(answer.content, folder)
    assert time.monotonic() - begun < LONG


MARKUP = {
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(7431)">' + SCRIPT + b"</svg>",
    "xml": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><svg>&e;</svg>',
    "html": b"<!doctype html>" + SCRIPT,
    "mvg": b"push graphic-context\nfill 'url(https://127.0.0.1/x\"|ls \"-la)'\npop graphic-context",
    "postscript": b"%!PS\n(/etc/passwd) (r) file runlibfile",
    "playlist": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
}


@pytest.mark.parametrize("data", MARKUP.values(), ids=MARKUP)
@pytest.mark.parametrize("name", ["a.png", "a.svg"])
def test_markup_is_no_image(client, folder, data, name):
    answer = client.post("/api/v1/search", files={"image": (name, data, "image/svg+xml")})
    assert answer.status_code in (400, 409)
    told = client.post("/api/v1/predict", files={"image": (name, data, "image/png")}, data={"model": "nuclei"})
    assert told.status_code == 400 or told.json()["images"][0]["outcome"] == "failed"
    for each in (answer, told):
        assert SCRIPT not in each.content
        clean(each.content, folder)


def pictures(client: TestClient, base: str, item: str) -> Iterator[bytes]:
    """All that can be had of an item's pixels."""
    paths = ["thumbnail", "image", "image?side=100"]
    paths += [f"{kind}/{each['column']}" for each in client.get(f"{base}/items/{item}/layers").json() for kind in
              ("masks", "layers")]  # fmt: skip
    if base.endswith("/api/v1"):
        paths += [f"enhanced?how={how}" for how in ("contrast", "clahe")]
    for path in paths:
        answer = client.get(f"{base}/items/{item}/{path}")
        assert answer.status_code == 200, (path, answer.text)
        assert answer.headers["content-type"] in ("image/jpeg", "image/png")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        yield answer.content


def harmless(data: bytes) -> None:
    """A picture, and nothing behind or within it that is something else."""
    assert b"alert(7431)" not in data
    assert not zipfile.is_zipfile(io.BytesIO(data))
    told = Pillow.open(io.BytesIO(data))
    assert not told.getexif()
    assert "comment" not in {name.lower() for name in told.info}
    assert data.endswith((b"\xff\xd9", b"IEND\xaeB`\x82"))


def test_polyglots_are_given_as_pictures_alone(client):
    for name in attacked.polyglots():
        (item,) = ids(client, f"name={name}")
        for data in pictures(client, "/api/v1", item):
            harmless(data)


def test_polyglots_that_are_sent_come_back_as_pictures_alone(client, folder):
    told = tried(client, *attacked.polyglots().items())
    base = f"/api/v1/trials/{told['id']}"
    assert [each["outcome"] for each in told["result"]["images"]] == ["ok"] * 5
    for image in told["result"]["images"]:
        for data in pictures(client, base, image["items"][0]["id"]):
            harmless(data)
    with zipfile.ZipFile(io.BytesIO(client.get(f"{base}/archive").content)) as archive:
        for name in archive.namelist():
            assert not name.startswith("/")
            assert ".." not in name.split("/")
            assert b"alert(7431)" not in archive.read(name)
    client.delete(base)


def test_a_mask_is_encoded_anew(client, collection):
    item = ids(client)[0]
    row = collection.found([item], ["width", "height"])[item]
    mask = images.encode(np.full((row["height"], row["width"]), 255, np.uint8), "png")
    mask = attacked._with_text(mask) + SCRIPT
    put = client.put(f"/api/v1/items/{item}/mask", params={"author": "eve"}, content=mask)
    assert put.status_code in (200, 400)
    if put.status_code == 200:
        harmless(client.get(f"/api/v1/items/{item}/masks/mask_user").content)
        client.post("/api/v1/labels/undo", json={"author": "eve"})


NAMES = ["../../evil.png", "/etc/cron.d/evil.png", "..\\..\\evil.png", "a/../../evil.png", "CON.png", ".htaccess",
         "a\r\nset-cookie: evil=1.png", 'a".png', "x" * 300 + ".png", "‮gnp.exe", "-rf.png", "~/evil.png"]  # fmt: skip


def test_names_of_uploads_and_in_archives_lead_nowhere(client, folder):
    before = outside(folder)
    sent = [(name, png(at)) for at, name in enumerate(NAMES)]
    for files in (sent, [("a.zip", zipped(dict(sent)))]):
        told = tried(client, *files)
        assert told["state"] == "done", told
        names = [each["name"] for each in told["result"]["images"]]
        assert len(names) == len(set(names)) >= len(NAMES) - 1
        for name in names:
            assert not set(name) & set("/\\\r\n\0")
            assert not name.startswith(".")
            assert len(name.encode()) <= 110
        packed = client.get(f"/api/v1/trials/{told['id']}/archive")
        assert packed.headers["content-disposition"] == 'attachment; filename="trial.zip"'
        assert "set-cookie" not in packed.headers
        for name in zipfile.ZipFile(io.BytesIO(packed.content)).namelist():
            assert not name.startswith("/")
            assert ".." not in name.split("/")
        client.delete(f"/api/v1/trials/{told['id']}")
    assert outside(folder) == before


def link() -> bytes:
    """A ZIP with a symbolic link to what lies outside."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        entry = zipfile.ZipInfo("a.png")
        entry.external_attr = 0o120777 << 16
        made.writestr(entry, "/etc/passwd")
    return out.getvalue()


def overlapping() -> bytes:
    """A ZIP that says its one entry is small, and it is not."""
    data = bytearray(zipped({"a.png": bytes(20 * 2**20)}))
    at = data.rfind(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 100)
    return bytes(data)


ARCHIVES = {
    "bomb": zipped({"a.png": bytes(200 * 2**20)}),
    "bombs": zipped({f"{at}.png": bytes(30 * 2**20) for at in range(12)}),
    "nested": zipped({"a.zip": zipped({"b.png": bytes(50 * 2**20)})}),
    "many": zipped({f"{at}.png": b"" for at in range(5000)}),
    "link": link(),
    "liar": overlapping(),
    "cut": zipped({"a.png": png()})[:200],
    "empty": b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("data", ARCHIVES.values(), ids=ARCHIVES)
def test_archives_that_are_traps_are_refused(client, folder, data):
    begun = time.monotonic()
    told = client.post("/api/v1/predict", files={"image": ("a.zip", data)}, data={"model": "nuclei"})
    assert told.status_code == 400 or {each["outcome"] for each in told.json()["images"]} == {"failed"}, told.text
    clean(told.content, folder)
    assert time.monotonic() - begun < LONG


# ---------------------------------------------------------------- links, made after the run


def test_links_out_of_the_collection_are_not_followed(client, collection, folder):
    """Who can write into the folder of a collection still reads nothing through it that is not the collection's."""
    item = ids(client)[1]
    told = folder / "out"
    (told / "exports" / "20260102-030405-000001-aaaa").mkdir(parents=True)
    (told / "exports" / "20260102-030405-000001-aaaa" / "items.csv").symlink_to(folder / "secret.txt")
    (told / "exports" / "20260102-030405-000002-aaaa").symlink_to(folder, target_is_directory=True)
    (told / "models" / "linked").mkdir(parents=True)
    (told / "models" / "linked" / "model.json").symlink_to(folder / "secret.txt")
    (told / "models" / "out").symlink_to(folder, target_is_directory=True)
    job = client.post("/api/v1/jobs", json={"kind": "export", "to": "csv"}).json()["id"]
    (told / "jobs" / job / "output.txt").symlink_to(folder / "secret.txt")
    mask = images.encode(np.full((48, 48), 255, np.uint8), "png")
    done = client.put(f"/api/v1/items/{item}/mask", params={"author": "eve"}, content=mask)
    assert done.status_code == 200, done.text
    for path in (told / "labels").iterdir():
        path.unlink()
        path.symlink_to(folder / "secret.txt")
    for path in [
        "exports/20260102-030405-000001-aaaa", "exports/20260102-030405-000002-aaaa", "models", f"jobs/{job}", "jobs",
        "models/linked/judged?labels=label_folder", "models/out/judged?labels=label_folder",
        f"items/{item}/masks/mask_user", f"items/{item}/layers", f"items/{item}/layers/mask_user",
    ]:  # fmt: skip
        answer = client.get(f"/api/v1/{path}")
        assert answer.status_code < 500, (path, answer.text)
        assert SECRET.encode() not in answer.content, path
        clean(answer.content, folder)
    client.post("/api/v1/labels/undo", json={"author": "eve"})


def test_links_in_the_sources_are_not_followed(client, collection, folder):
    item = ids(client)[0]
    path = Path(collection.found([item], ["path"])[item]["path"])
    kept = path.read_bytes()
    try:
        for target in (folder / "secret.png", Path("/etc/passwd"), Path("/dev/zero"), folder):
            path.unlink()
            path.symlink_to(target)
            for what in ("image", "enhanced?how=contrast"):
                answer = client.get(f"/api/v1/items/{item}/{what}")
                assert answer.status_code == 409, (target, answer.text)
                assert "gone or has changed" in answer.json()["detail"]
                clean(answer.content, folder)
    finally:
        path.unlink()
        path.write_bytes(kept)


# ---------------------------------------------------------------- what goes to other programs


FORMULAS = ["=1+1", "+1", "-1+cmd|'/c calc'!A0", "@SUM(A1)", "\t=1", '=HYPERLINK("http://evil")', '",=1+1,"', " =1+1"]


@pytest.mark.parametrize("label", FORMULAS)
def test_no_label_is_a_formula_to_a_spreadsheet(client, label):
    items = ids(client)[:1]
    done = client.post("/api/v1/labels", json={"items": items, "label": label, "author": "=eve()"})
    if done.status_code != 200:
        assert done.status_code == 400
        return
    answer = client.get("/api/v1/labels/export")
    assert answer.headers["content-disposition"] == 'attachment; filename="labels.csv"'
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert len(rows) == 2
    for cell in rows[1]:
        assert not cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r")), cell
    plain = client.get("/api/v1/labels/export", headers={"accept": "application/json"}).json()
    assert plain[0]["label"] == label.strip()
    client.post("/api/v1/labels/undo", json={"author": "=eve()"})


@pytest.mark.parametrize("name", ["a\r\nx-evil: 1", 'a"; filename="b', "../a", "é‮", "a\0"])
def test_no_name_comes_into_a_header(client, collection, name):
    place = collection.folder / "exports" / "20260102-030405-000009-bbbb"
    place.mkdir(parents=True, exist_ok=True)
    safe = name.replace("/", "_").replace("\0", "_")
    (place / safe).write_text("a")
    try:
        answer = client.get(f"/api/v1/exports/{place.name}")
        assert "x-evil" not in answer.headers
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].isascii()
        assert answer.headers["content-disposition"].count("filename=") == 1
        assert json.dumps(answer.headers["content-disposition"]).count("\\r") == 0
    finally:
        (place / safe).unlink()
