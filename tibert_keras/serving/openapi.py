"""The description of the server for programs (OpenAPI 3.1) and for people, on a page that needs no other."""

from __future__ import annotations

import html
import json
from typing import Any

from tibert_keras.serving.protocol import DEFAULT_SIGNATURE

_EXAMPLE_TEXT = "བཅོམ་ལྡན་[MASK]་ལ་ཕྱག་འཚལ་ལོ། །"
_STRING = {"type": "string"}
_ERRORS = {
    400: "The request cannot be understood, or the model refuses it",
    401: "The token is missing or wrong",
    404: "There is no such model or version",
    408: "The request did not arrive in time",
    413: "The body is too large",
    429: "Too many requests wait; try again later",
    503: "The server is stopping",
    504: "There was no answer in time",
}


def describe(*, with_token: bool) -> dict[str, Any]:
    """Make the OpenAPI description.

    Args:
        with_token: Whether requests need a token.
    """
    model = "/v1/models/{name}"
    paths: dict[str, Any] = {
        "/healthz": {"get": _operation("Whether requests are answered", _object(status=_STRING), errors=[])},
        "/metrics": {"get": _operation("Metrics for Prometheus", _STRING, media="text/plain", errors=[401])},
        "/v1/models": {"get": _operation("The models served", _MODELS, errors=[401])},
    }
    for place in (model, f"{model}/versions/{{version}}"):
        paths |= {
            place: {"get": _operation("Which versions of a model are served", _STATUS, place=place)},
            f"{place}/metadata": {"get": _operation("A model's signatures", _METADATA, place=place)},
            f"{place}:predict": {"post": _operation("Run a signature", _PREDICTED, place=place, body=_PREDICT)},
            f"{place}:fillGaps": {"post": _operation("Fill gaps", _FILLED, place=place, body=_FILL_GAPS)},
        }
    security = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}} if with_token else {}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tibert serve",
            "version": "1",
            "description": "TensorFlow Serving's REST API, and gaps in Tibetan texts.",
        },
        **({"security": [{"token": []}]} if with_token else {}),
        "paths": paths,
        "components": {"schemas": {"Error": _object(error=_STRING)}, **security},
    }


def reference_page(description: dict[str, Any]) -> str:
    """Make a page of HTML from the description."""
    sections = [
        _section(path, method, operation)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    ]
    return _PAGE.format(title=html.escape(description["info"]["title"]), sections="\n".join(sections))


# === Schemas ===


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


_MODELS = _object(
    models=_list(
        _object(name=_STRING, versions=_list(_STRING), signatures=_list(_STRING), fills_gaps={"type": "boolean"})
    )
)
_STATUS = _object(
    model_version_status=_list(
        _object(
            version=_STRING,
            state={"enum": ["AVAILABLE", "END"]},
            status=_object(error_code=_STRING, error_message=_STRING),
        )
    )
)
_METADATA = _object(
    model_spec=_object(name=_STRING, signature_name=_STRING, version=_STRING),
    metadata=_object(signature_def=_object(signature_def={"type": "object"})),
)
_SIGNATURE_NAME = {"type": "string", "default": DEFAULT_SIGNATURE, "description": "The signature to run"}
_INSTANCES = 'An item a row: `{input: value}`, or the value of the only input; bytes as `{"b64": ...}`'
_PREDICT = {
    "oneOf": [
        {
            "type": "object",
            "properties": {
                "signature_name": _SIGNATURE_NAME,
                "instances": {"type": "array", "minItems": 1, "description": _INSTANCES},
            },
            "required": ["instances"],
        },
        {
            "type": "object",
            "properties": {
                "signature_name": _SIGNATURE_NAME,
                "inputs": {"description": "Whole tensors: `{input: tensor}`, or the tensor of the only input"},
            },
            "required": ["inputs"],
        },
    ],
    "examples": [{"instances": [_EXAMPLE_TEXT]}],
}  # fmt: skip
_PREDICTED = {
    "oneOf": [
        _object(predictions={"type": "array", "description": "To `instances`, an item a row"}),
        _object(outputs={"description": "To `inputs`, whole tensors"}),
    ]
}
_FILL_GAPS = {
    **_object(
        texts={
            **_list(_STRING),
            "minItems": 1,
            "description": "Each with a gap at least: `[MASK]` once or more, or `[GAP:2-4]` for 2 to 4 syllables",
        }
    ),
    "examples": [{"texts": [_EXAMPLE_TEXT], "top_k": 5}],
}
_FILL_GAPS["properties"]["top_k"] = {
    "type": "integer", "minimum": 1, "maximum": 50, "default": 5, "description": "The most candidates for a gap",
}  # fmt: skip
_FILL_GAPS["properties"]["only"] = {
    **_list({"type": "integer", "minimum": 0}),
    "minItems": 1,
    "description": "For each text, the number of its only gap to fill, from 0; the others are masked. All by default",
}
_SCORE = {"type": "number", "minimum": 0, "maximum": 1, "description": "Geometric mean of its pieces' probabilities"}
_FILLED = _object(
    texts=_list(
        _object(
            gaps=_list(_object(candidates=_list(_object(text=_STRING, score=_SCORE, syllables={"type": "integer"}))))
        )
    )
)
_PARAMETERS = {
    "name": {"schema": {"type": "string", "pattern": "^[^/:]+$"}, "description": "The model"},
    "version": {"schema": {"type": "integer", "minimum": 1}, "description": "The version"},
}  # fmt: skip


def _operation(
    summary: str,
    schema: Any,
    *,
    place: str = "",
    body: Any = None,
    media: str = "application/json",
    errors: list[int] | None = None,
) -> dict[str, Any]:
    """Describe a request.

    Args:
        summary: What it does.
        schema: Of the answer.
        place: The path as far as it names a model.
        body: Schema of the body, if there is one.
        media: Type of the answer.
        errors: The statuses of errors; what can happen to a request to a model by default.
    """
    if errors is None:
        errors = list(_ERRORS) if body else [400, 401, 404]
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    operation = {
        "summary": summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, **parameter}
            for name, parameter in _PARAMETERS.items()
            if f"{{{name}}}" in place
        ],
        "responses": {
            "200": {"description": "The answer", "content": {media: {"schema": schema}}},
            **{str(status): {"description": _ERRORS[status], "content": error} for status in errors},
        },
    }
    if body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


# === The page ===

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="stylesheet" href="/page/page.css">
<link rel="icon" href="/page/icon.svg">
</head>
<body class="reference">
<header><h1>{title}</h1><a href="/openapi.json">openapi.json</a> <a href="/">The page for filling gaps</a></header>
<main>
{sections}
</main>
</body>
</html>
"""


def _section(path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [f"<h2><code>{method.upper()} {html.escape(path)}</code></h2><p>{html.escape(operation['summary'])}</p>"]
    if operation["parameters"]:
        parts.append(_table((p["name"], p["description"]) for p in operation["parameters"]))
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]["application/json"]
        parts += [_code("Request", content["schema"]), _code("Example", content["schema"]["examples"][0], is_open=True)]
    for media, content in operation["responses"]["200"]["content"].items():
        parts.append(_code(f"Answer ({media})", content["schema"]))
    errors = [(status, answer["description"]) for status, answer in operation["responses"].items() if status != "200"]
    parts += [_table(errors)] if errors else []
    return f"<section>{''.join(parts)}</section>"


def _table(rows: Any) -> str:
    cells = "".join(f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(text)}</td></tr>" for name, text in rows)
    return f"<table>{cells}</table>"


def _code(title: str, value: Any, *, is_open: bool = False) -> str:
    text = html.escape(json.dumps(value, ensure_ascii=False, indent=2))
    return f"<details{' open' if is_open else ''}><summary>{title}</summary><pre>{text}</pre></details>"
