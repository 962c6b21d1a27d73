"""The description of the server: a server that is asked everything it allows answers as it says, and nothing else."""

from __future__ import annotations

import json
import re
from collections import Counter

import hypothesis
import pytest
import requests
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.serving.running import running
from tibert_keras.serving.models import load_models
from tibert_keras.serving.openapi import describe

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
POSITIVE, NEGATIVE = schemathesis.GenerationMode
# Where there is no body, there is nothing to be wrong.
OPERATIONS = [
    pytest.param(method.upper(), path, mode, id=f"{method.upper()}-{path}-{mode.value}")
    for path, methods in describe(with_token=False)["paths"].items()
    for method, operation in methods.items()
    for mode in (POSITIVE, NEGATIVE)
    if mode is POSITIVE or "requestBody" in operation
]
# Of each operation; requests to a model cost more than the others.
EXAMPLES = 60
COUNTS: Counter[tuple[str, int]] = Counter()


@pytest.fixture(scope="module")
def url(exported):
    with running(load_models([str(exported)], num_versions=1)) as address:
        yield address


@pytest.fixture(scope="module", autouse=True)
def told(request):
    """Tells how many requests there were and what they got, with `pytest -s`."""
    yield
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        statuses = Counter(status for (_, status), count in COUNTS.items() for _ in range(count))
        print(f"\nfuzzed: {COUNTS.total()} requests, {dict(sorted(statuses.items()))}")


@pytest.mark.parametrize("method, path, mode", OPERATIONS)
def test_fuzz(url, method, path, mode):
    """Right requests and wrong ones, two thirds of them to the model that there is."""
    schema = schemathesis.openapi.from_dict(describe(with_token=False))
    operation = schema[path][method]

    @hypothesis.given(
        case=operation.as_strategy(generation_mode=mode), known=hypothesis.strategies.sampled_from([True, True, False])
    )
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def ask(case, known):
        if known and case.path_parameters:
            case.path_parameters |= {"name": "tibert"} | ({"version": 1} if "version" in case.path_parameters else {})
        response = case.call(base_url=url, timeout=60)
        COUNTS[path, response.status_code] += 1
        case.validate_response(response, checks=CHECKS)
        assert not re.search(r"Traceback|/tmp|/home|site-packages", response.text)

    ask()


def test_the_page_says_what_the_description_says(url):
    description = requests.get(f"{url}/openapi.json").json()
    assert description == json.loads(json.dumps(describe(with_token=False)))
    page = requests.get(f"{url}/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for path, methods in description["paths"].items():
        for method in methods:
            assert f"<code>{method.upper()} {path}</code>" in page.text
    # Nothing from elsewhere.
    assert not re.search(r"(?:src|href)=\"(?!/)", page.text)


def test_the_examples_are_answered(url):
    for path, methods in describe(with_token=False)["paths"].items():
        for operation in methods.values():
            if "requestBody" not in operation:
                continue
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            for example in schema["examples"]:
                response = requests.post(url + path.format(name="tibert", version=1), json=example)
                assert response.ok, response.text


def test_with_a_token():
    description = describe(with_token=True)
    assert description["security"] == [{"token": []}]
    assert description["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
