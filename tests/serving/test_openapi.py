"""The description of the API: the server's answers to generated requests conform to it."""

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

from tests.support.running import running
from tests.support.saved_models import classifier_of, tagger_of
from tibert_keras.saved_model.export import export_saved_model
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
# Without a body, no request is wrong.
OPERATIONS = [
    pytest.param(method.upper(), path, mode, id=f"{method.upper()}-{path}-{mode.value}")
    for path, methods in describe({}, with_token=False)["paths"].items()
    for method, operation in methods.items()
    for mode in (POSITIVE, NEGATIVE)
    if mode is POSITIVE or "requestBody" in operation
]
# Requests per operation, valid and invalid; searches of gaps cost more than others.
EXAMPLES = {POSITIVE: 50, NEGATIVE: 20}
SEARCHES = 10
COUNTS: Counter[tuple[str, int]] = Counter()


@pytest.fixture(scope="module")
def url(exported):
    # Enough time for many gaps on a busy machine.
    with running(load_models([str(exported)], num_versions=1), timeout=300) as address:
        yield address


@pytest.fixture(scope="module", autouse=True)
def told(request):
    """Prints the number of requests and their statuses, with `pytest -s`."""
    yield
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        statuses = Counter(status for (_, status), count in COUNTS.items() for _ in range(count))
        print(f"\nfuzzed: {COUNTS.total()} requests, {dict(sorted(statuses.items()))}")


@pytest.fixture(scope="module", params=["tagger", "classifier"])
def url_of_classifier(request, spm_models, tmp_path_factory):
    """The URL of a server with only this model."""
    folder = tmp_path_factory.mktemp("classifier") / request.param
    make = {"tagger": tagger_of, "classifier": classifier_of}[request.param]
    export_saved_model(make(spm_models["bpe"]), folder / "1")
    with running(load_models([str(folder)], num_versions=1), timeout=300) as address:
        yield address


@pytest.mark.parametrize("method, path, mode", OPERATIONS)
def test_fuzz(url, method, path, mode):
    """Most valid requests are answered with status 200; of those for gaps, at least a quarter."""
    statuses = fuzz(url, method, path, mode)
    wanted = len(statuses) / (4 if "fillGaps" in path else 2)
    assert mode is NEGATIVE or statuses.count(200) > wanted, Counter(statuses)


@pytest.mark.parametrize("mode", [POSITIVE, NEGATIVE], ids=lambda mode: mode.value)
def test_fuzz_classifiers(url_of_classifier, mode):
    """Their graphs accept any text that is not too long."""
    statuses = fuzz(url_of_classifier, "POST", "/v1/models/{name}:predict", mode)
    assert mode is NEGATIVE or statuses.count(200) > len(statuses) / 2, Counter(statuses)


def test_fuzz_without_the_token(exported):
    with running(load_models([str(exported)], num_versions=1), token="open sesame") as url:
        for method, path, mode in (each.values for each in OPERATIONS):
            if mode is POSITIVE and path != "/healthz":
                assert set(fuzz(url, method, path, mode, examples=5)) == {401}, path


def fuzz(url, method, path, mode, *, examples=None):
    """Send generated requests, check the answers against the description, and return their statuses."""
    schema = schemathesis.openapi.from_dict(requests.get(f"{url}/openapi.json").json())
    operation = schema[path][method]
    statuses = []

    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis.settings(
        max_examples=examples or (SEARCHES if "fillGaps" in path else EXAMPLES[mode]),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def ask(case):
        if mode is POSITIVE and isinstance(case.body, dict) and "only" in case.body:
            case.body["only"] = [0] * len(case.body["texts"])  # one per text, which no schema can express
        response = case.call(base_url=url, timeout=300)
        statuses.append(response.status_code)
        case.validate_response(response, checks=CHECKS)
        assert not re.search(r"Traceback|/tmp|/home|site-packages", response.text)

    ask()
    COUNTS.update((path, status) for status in statuses)
    return statuses


def test_the_page_says_what_the_description_says(url):
    description = requests.get(f"{url}/openapi.json").json()
    assert description["paths"].keys() == describe({}, with_token=False)["paths"].keys()
    page = requests.get(f"{url}/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for path, methods in description["paths"].items():
        for method in methods:
            assert f"<code>{method.upper()} {path}</code>" in page.text
    # Nothing is loaded from other servers.
    assert not re.search(r"(?:src|href)=\"(?!/)", page.text)


def test_the_examples_are_answered(url):
    for path, methods in describe({}, with_token=False)["paths"].items():
        for operation in methods.values():
            if "requestBody" not in operation:
                continue
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            for example in schema["examples"]:
                response = requests.post(url + path.format(name="tibert", version=1), json=example)
                assert response.ok, response.text


def test_signatures_are_described(url):
    description = requests.get(f"{url}/openapi.json").json()
    (name, version) = description["paths"]["/v1/models/{name}/versions/{version}:predict"]["post"]["parameters"]
    assert (name["schema"], version["schema"]) == ({"enum": ["tibert"]}, {"enum": [1]})
    body = description["paths"]["/v1/models/{name}:predict"]["post"]["requestBody"]["content"]["application/json"]
    variants = {
        (form["properties"]["signature_name"]["const"], kind): form["properties"][kind]
        for form in body["schema"]["oneOf"]
        for kind in form["properties"].keys() - {"signature_name"}
    }
    assert variants["serving_default", "instances"]["items"]["anyOf"][0] == {"type": "string"}
    ids = variants["masked_lm", "inputs"]["properties"]["token_ids"]["items"]["items"]
    assert ids == {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}


def test_with_a_token(exported):
    """Without the token, nothing is revealed about the models."""
    models = load_models([f"secret={exported}"], num_versions=1)
    description = describe(models, with_token=True)
    assert "secret" not in json.dumps(description) and "masked_lm" not in json.dumps(description)
    assert description["security"] == [{"token": []}]
    assert description["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
