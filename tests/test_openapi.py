"""The document of the API, and the API held to it: what is asked by its rules, and against them, and by the pages."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import attacked
import drawn
import pytest
import requests
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from imagier import images
from imagier.collection import Collection
from imagier.web import make_app
from imagier.web.pages import views
from imagier.workflows.run import run

HOME = "http://127.0.0.1"
STEPS = [
    {"segment": {"model": "nuclei", "least": 20}},
    {"embed": {"encoder": "classical"}},
    {"reduce": {"method": "pca", "components": 4}},
    {"cluster": {"k": 3}},
]
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
METHODS = ("get", "put", "post", "delete", "patch", "options", "trace")
EXAMPLES = 40
"""Of each operation and mode."""


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Collection:
    """12 drawn pictures of three kinds."""
    folder = tmp_path_factory.mktemp("openapi")
    return run(drawn.fill(folder / "images"), into=folder / "out", pipeline=STEPS, report=False, threads=1)


@pytest.fixture(scope="module")
def client(collection) -> Iterator[TestClient]:
    with attacked.alive(collection) as made:
        yield made


@pytest.fixture(scope="module")
def document(client) -> dict[str, Any]:
    return client.get("/api/v1/openapi.json").json()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path, operation."""
    for path, each in document["paths"].items():
        for method, operation in each.items():
            yield method, path, operation


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]


# ---------------------------------------------------------------- what is asked by its rules, and against them


@pytest.fixture(scope="module")
def api(document) -> schemathesis.BaseSchema:
    load_all_checks()
    return schemathesis.openapi.from_dict(document)


@pytest.fixture(scope="module")
def known(client) -> dict[str, str]:
    """What there is, by the name of the parameter that says which."""
    job = client.post("/api/v1/jobs", json={"kind": "export", "to": "csv"})
    assert job.status_code == 201, job.text
    image = {"image": ("a.png", images.encode(drawn.picture("disc", 9), "png"))}
    trial = client.post("/api/v1/trials", files=image, data={"model": "nuclei"}).json()["id"]
    for _ in range(600):
        if client.get(f"/api/v1/trials/{trial}").json()["state"] == "done":
            break
        time.sleep(0.1)
    item = client.get("/api/v1/items", params={"limit": 1}).json()["items"][0]["id"]
    return {"item": item, "column": "group", "group": "1", "job": job.json()["id"], "trial": trial, "name": "nuclei"}


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_whatever_is_asked_is_answered_as_the_document_says(client, collection, api, known, mode):
    answered: set[str] = set()
    wrong: list[str] = []
    every = sorted((made.ok() for made in api.get_all_operations()), key=lambda each: each.method == "delete")
    for operation in every:
        if mode is GenerationMode.NEGATIVE and not operation.body and not [*operation.iter_parameters()]:
            continue  # nothing of it can be wrong
        try:
            if hold(operation, mode, client, str(collection.folder.parent), known):
                answered.add(operation.label)
        except (AssertionError, BaseExceptionGroup) as error:
            wrong.append(f"{operation.label}: {error}")
    assert not wrong, "\n\n".join(wrong)
    # What needs a trained model, an image of its own size, or an item's id within a body is tested where it stands.
    assert len(answered) > (0.6 * len(every) if mode is GenerationMode.POSITIVE else 0), answered


def hold(operation: APIOperation, mode: GenerationMode, client: TestClient, place: str, known: dict[str, str]) -> bool:
    """Ask an operation whatever comes to mind; whether it could ever do what was asked."""
    done = False
    real_ones = known | ({"column": "masks"} if re.search("/(masks|layers)/", operation.path) else {})

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), real=st.booleans())
    def asked(case: schemathesis.Case, real: bool) -> None:
        nonlocal done
        if real:
            case.path_parameters.update({name: real_ones[name] for name in case.path_parameters})
        request = requests.Request(**case.as_transport_kwargs(base_url=HOME)).prepare()
        body = request.body.encode() if isinstance(request.body, str) else request.body
        answer = client.request(request.method, request.url, content=body, headers=dict(request.headers))
        done = done or answer.is_success
        case.validate_response(answer, checks=CHECKS)
        assert place.encode() not in answer.content

    asked()
    return done


def test_other_methods_are_refused(client, document):
    for path, each in document["paths"].items():
        place = re.sub(r"{\w+}", "1", path)
        for method in set(METHODS) - set(each):
            answer = client.request(method, place)
            assert (answer.status_code, method, path) == (405, method, path)
            assert answer.headers["allow"]


def test_a_job_that_nobody_would_begin_is_refused(collection):
    """Outside a server's life nobody looks after jobs: that is said, and nothing stands in line for ever."""
    asleep = TestClient(make_app(collection), base_url=HOME)
    before = asleep.get("/api/v1/jobs").json()
    answer = asleep.post("/api/v1/jobs", json={"kind": "run"})
    assert (answer.status_code, "looks after the jobs" in answer.json()["detail"]) == (409, True)
    assert asleep.get("/api/v1/jobs").json() == before
    assert before["watching"] is False


# ---------------------------------------------------------------- what the document tells


def has_example(document: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Whether a reader sees a value that fits: one is given, or the schema leaves no choice."""
    schema = resolved(document, schema)
    kinds = [each for each in schema.get("anyOf", []) if each.get("type") != "null"]
    closed = any("enum" in each or "const" in each or each.get("type") == "boolean" for each in [schema, *kinds])
    return closed or bool({"examples", "example", "default"} & set(schema)) or is_file(schema)


def is_file(schema: dict[str, Any]) -> bool:
    """Or several."""
    return "contentMediaType" in schema or "contentMediaType" in schema.get("items", {})


def test_every_parameter_and_body_has_an_example(document):
    lacking = []
    for method, path, operation in operations(document):
        for each in operation.get("parameters", []):
            if not ({"example", "examples"} & set(each) or has_example(document, each["schema"])):
                lacking.append(f"{method} {path}: {each['name']}")
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            schema = resolved(document, content["schema"])
            for one in schema.get("oneOf", [schema]):
                lacking += [
                    f"{method} {path}: {kind}, {name}"
                    for name, field in resolved(document, one).get("properties", {}).items()
                    if not has_example(document, field)
                ]
    assert not sorted(set(lacking))


def test_every_answer_has_a_schema_or_a_kind(document):
    for method, path, operation in operations(document):
        good = {status: each for status, each in operation["responses"].items() if status.startswith("2")}
        assert good, (method, path)
        for status, each in good.items():
            assert status == "204" or each["content"], (method, path)


# ---------------------------------------------------------------- what the pages ask

ASKED = re.compile(r"""\b(?:(get|url)\(|send\("(GET|POST|PUT|DELETE)",\s*)(`[^`]*`|"[^"]*"|'[^']*'(?:\s*\+[^,)]*)?)""")
"""get(`...`), url('...' + id), send("POST", `...`) in the pages' scripts."""


def calls() -> Iterator[tuple[str, str, str]]:
    """File, method and the path with * for what is put in, of every call whose path starts at the API's root."""
    for file in sorted(views.STATIC.glob("*.js")):
        for plain, method, text in ASKED.findall(file.read_text()):
            literal = re.sub(r"'\s*\+\s*[\w.]+\s*\+\s*'", "*", text).strip("`\"'")
            literal = re.sub(r"'\s*\+.*$", "*", re.sub(r"\$\{[^}]*\}", "*", literal))
            if literal == "" or literal.startswith(("/", "*")):
                yield file.name, "get" if plain else method.lower(), literal.partition("?")[0]


def test_pages_ask_for_nothing_that_the_api_lacks(document):
    known = {method: [] for method in METHODS}
    for method, path, _ in operations(document):
        known[method].append(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path.removeprefix("/api/v1"))))
    found = list(calls())
    unknown = [
        (file, method, path)
        for file, method, path in found
        if not any(fits(pattern, path) for pattern in known[method])
    ]
    assert not unknown
    assert len(found) > 40
    assert {"gallery.js", "item.js", "try.js", "jobs.js", "label.js"} <= {file for file, _, _ in found}


STARTS = ("", "/trials/1", "/items/1")
"""What the first * of a path stands for where nothing is before it."""


def fits(pattern: str, path: str) -> bool:
    """Whether a path could be of a route."""
    heads = STARTS if path.startswith("*") else [""]
    # Of a job a word says what is done with it.
    tails = ["1", "stop"] if path.startswith("/jobs/") else ["1"]
    rest = path.removeprefix("*")
    return any(
        re.fullmatch(pattern, head + re.sub(r"\*$", tail, rest).replace("*", "1")) for head in heads for tail in tails
    )
