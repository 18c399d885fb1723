"""What the tests of attacks share: a collection beside a secret, an app that serves it, and what no answer may hold."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import drawn
import pytest
from fastapi.testclient import TestClient
from PIL import Image as Pillow

from imagier import images
from imagier.collection import Collection
from imagier.web import make_app
from imagier.workflows.jobs import Jobs
from imagier.workflows.run import run

HOME = "http://127.0.0.1"
SECRET = "the key under the mat 7431"
SCRIPT = b"<script>alert(7431)</script>"
STEPS = [
    {"segment": {"model": "nuclei", "least": 20}},
    {"embed": {"encoder": "classical"}},
    {"reduce": {"method": "pca", "components": 4}},
    {"cluster": {"k": 3}},
]
LEAKS = re.compile(rb"Traceback|File \"/|root:x:|site-packages|/dist-packages|\.py\", line")


def collection(folder: Path) -> Collection:
    """FOLDER/out, of FOLDER/images: 12 drawn pictures and polyglots; FOLDER/secret.txt and secret.png are not its."""
    pictures = drawn.fill(folder / "images")
    for name, data in polyglots().items():
        (pictures / name).write_bytes(data)
    (folder / "secret.txt").write_text(SECRET)
    drawn.save(folder / "secret.png", drawn.plain((7, 43, 1)))
    return run(pictures, into=folder / "out", pipeline=STEPS, report=False, threads=1)


@contextmanager
def alive(served: Collection) -> Iterator[TestClient]:
    """The app as it lives, but for one thing: what is put in line is never begun."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Jobs, "_look", lambda _: None)
        with TestClient(make_app(served), base_url=HOME, raise_server_exceptions=False) as made:
            yield made


def png(seed: int = 0) -> bytes:
    return images.encode(drawn.picture("disc", seed), "png")


def polyglots() -> dict[str, bytes]:
    """Images that are something else as well, by file name."""
    picture = Pillow.fromarray(drawn.picture("stripes", 77))
    exif, gif, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    told = Pillow.Exif()
    told[0x010E] = SCRIPT.decode()  # ImageDescription
    picture.save(exif, "jpeg", exif=told, comment=SCRIPT)
    picture.convert("P").save(gif, "gif", comment=b"*/=1;alert(7431)//" + SCRIPT)
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("evil.html", SCRIPT)
    return {
        "html.png": png(70) + SCRIPT,
        "zip.png": png(71) + packed.getvalue(),
        "text.png": _with_text(png(72)),
        "exif.jpg": exif.getvalue(),
        "js.gif": gif.getvalue(),
    }


def _with_text(data: bytes) -> bytes:
    """A PNG with a script in its iTXt, right after its head."""
    return data[:33] + chunk(b"tEXt", b"Comment\0" + SCRIPT) + data[33:]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is so large."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff_of(width: int, height: int, *, ring: bool = False) -> bytes:
    """A TIFF that says it is so large; ring: its next page is itself."""
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 1000)]
    ifd = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *each) for each in tags)
    at = 8 + 1000
    return struct.pack("<2sHI", b"II", 42, at) + bytes(1000) + ifd + struct.pack("<I", at if ring else 0)


def zipped(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(name, data)
    return out.getvalue()


def clean(content: bytes, folder: Path) -> None:
    """Nothing of the machine is in an answer, and nothing of what lies outside."""
    for each in (str(folder).encode(), SECRET.encode(), str(Path.home()).encode() + b"/"):
        assert each not in content, content[:500]
    assert not LEAKS.search(content), content[:500]


def outside(folder: Path) -> dict[str, bytes]:
    """What lies beside the collection."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "out" not in path.relative_to(folder).parts[:1]
    }


# ---------------------------------------------------------------- every place of every route


def resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in schema:
        return schema
    found: Mapping[str, Any] = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def sample(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    """A value that fits a schema."""
    schema = resolved(document, schema)
    if given := [each for each in schema.get("examples", []) if each is not None]:
        return given[0]
    for name in ("const", "default"):
        if schema.get(name) is not None:
            return schema[name]
    if "enum" in schema:
        return schema["enum"][0]
    for each in schema.get("anyOf", schema.get("oneOf", [])):
        if each.get("type") != "null":
            return sample(document, each)
    match schema.get("type"):
        case "object":
            return {name: sample(document, each) for name, each in schema.get("properties", {}).items()}
        case "array":
            return [sample(document, schema["items"])]
        case "integer" | "number":
            return 1
        case "boolean":
            return True
    return "a"


def spoilt(value: Any, text: str) -> Iterator[Any]:
    """A JSON value with a text in one place, for each place that holds a text, keys too."""
    if isinstance(value, str):
        yield text
    elif isinstance(value, list):
        for at, each in enumerate(value):
            for made in spoilt(each, text):
                yield [*value[:at], made, *value[at + 1 :]]
    elif isinstance(value, dict):
        for name, each in value.items():
            for made in spoilt(each, text):
                yield {**value, name: made}
        yield {**value, text: text}


def attempts(document: Mapping[str, Any], text: str, known: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Requests, as of a client, that have a text in one place: of every path, query, form and body of the API."""
    from urllib.parse import quote

    for path, each in document["paths"].items():
        for method, operation in each.items():
            parameters = operation.get("parameters", [])
            given = {one["name"]: known.get(one["name"], sample(document, one["schema"])) for one in parameters}
            query = {one["name"]: given[one["name"]] for one in parameters if one["in"] == "query"}

            def url(with_: Mapping[str, Any], path: str = path) -> str:
                return re.sub(r"{(\w+)}", lambda found: quote(str(with_[found[1]]), "", errors="surrogatepass"), path)

            plain = {"method": method.upper(), "url": url(given), "params": query, **_body(document, operation)}
            for one in parameters:
                if one["in"] == "path":
                    yield {**plain, "url": url({**given, one["name"]: text})}
                elif text.isprintable() or text.isascii():
                    yield {**plain, "params": {**query, one["name"]: text}}
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                schema = resolved(document, content["schema"])
                if kind == "application/json":
                    for made in (s for o in schema.get("oneOf", [schema]) for s in spoilt(sample(document, o), text)):
                        body = {"content": json.dumps(made).encode(), "headers": {"content-type": kind}}
                        yield {**plain, **body}
                elif kind == "multipart/form-data" and text.isprintable():
                    yield {**plain, "files": {"image": (text, png())}}
                    for name in set(schema["properties"]) - {"image"}:
                        yield {**plain, "files": {"image": ("a.png", png())}, "data": {name: text}}


def _body(document: Mapping[str, Any], operation: Mapping[str, Any]) -> dict[str, Any]:
    """A good one."""
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = resolved(document, content["schema"])
        if kind == "application/json":
            value = sample(document, schema.get("oneOf", [schema])[0])
            return {"content": json.dumps(value).encode(), "headers": {"content-type": kind}}
        if kind == "multipart/form-data":
            return {"files": {"image": ("a.png", png())}}
        return {"content": png(), "headers": {"content-type": kind}}
    return {}
