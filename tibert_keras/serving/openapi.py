"""The description of the server for programs (OpenAPI 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tibert_keras.serving.endpoints import MAX_CANDIDATES, MAX_GAPS
from tibert_keras.serving.models import ServedModel
from tibert_keras.serving.protocol import BYTES_SUFFIX, DEFAULT_SIGNATURE, TensorSpec

_EXAMPLE_TEXT = "བཅོམ་ལྡན་[MASK]་ལ་ཕྱག་འཚལ་ལོ། །"
_STRING = {"type": "string"}
_ERRORS = {
    400: "The request cannot be understood, or the model refuses it",
    401: "The token is missing or wrong",
    404: "There is no such model or version",
    408: "The request did not arrive in time",
    413: "The body is too large",
    429: "Too many requests wait; try again later",
    503: "The server is stopping, or a model's answers were found not to be by row; ask again",
    504: "There was no answer in time",
}


def describe(models: Mapping[str, ServedModel], *, with_token: bool) -> dict[str, Any]:
    """Make the OpenAPI description.

    Args:
        models: What is served at the moment. If requests need a token, nothing of it is told.
        with_token: Whether requests need a token.
    """
    served = {} if with_token else models
    versions = [version for each in served.values() for version in each.versions.values()]
    signatures = {name: signature.inputs for version in versions for name, signature in version.signatures.items()}
    numbers = {number for each in served.values() for number in each.versions}
    predict, parameters = _predict(signatures), _parameters(sorted(served), sorted(numbers))
    model = "/v1/models/{name}"
    paths: dict[str, Any] = {
        "/healthz": {"get": _operation("Whether requests are answered", _object(status=_STRING), errors=[])},
        "/metrics": {"get": _operation("Metrics for Prometheus", _STRING, media="text/plain", errors=[401])},
        "/v1/models": {"get": _operation("The models served", _MODELS, errors=[401])},
    }
    for place in (model, f"{model}/versions/{{version}}"):
        paths |= {
            place: {"get": _operation("Which versions of a model are served", _STATUS)},
            f"{place}/metadata": {"get": _operation("A model's signatures", _METADATA)},
            f"{place}:predict": {"post": _operation("Run a signature", _PREDICTED, body=predict)},
            f"{place}:fillGaps": {"post": _operation("Fill gaps", _FILLED, body=_FILL_GAPS)},
        }
    for place, operations in paths.items():
        for operation in operations.values():
            operation["parameters"] = [
                {"name": name, "in": "path", "required": True, **parameter}
                for name, parameter in parameters.items()
                if f"{{{name}}}" in place
            ]
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
_INSTANCES = 'An item a row: `{input: value}`, or the value of the only input; bytes as `{"b64": ...}`'
_INPUTS = "Whole tensors: `{input: tensor}`, or the tensor of the only input"


def _predict(signatures: Mapping[str, Mapping[str, TensorSpec]]) -> dict[str, Any]:
    """The body of `:predict`, for each signature in both forms; in general, if none is to be told."""
    variants = [
        _signature(name, form, schema)
        for name, specs in signatures.items()
        for form, schema in (
            ("instances", {**_list(_values(specs, skip=1)), "minItems": 1, "description": _INSTANCES}),
            ("inputs", {**_values(specs, skip=0), "description": _INPUTS}),
        )
    ]
    return {
        "oneOf": variants
        or [
            _signature(None, "instances", {"type": "array", "minItems": 1, "description": _INSTANCES}),
            _signature(None, "inputs", {"description": _INPUTS}),
        ],
        "examples": [{"instances": [_EXAMPLE_TEXT]}],
    }


def _signature(name: str | None, form: str, schema: dict[str, Any]) -> dict[str, Any]:
    needed = [form] if name in (None, DEFAULT_SIGNATURE) else [form, "signature_name"]
    named = {"type": "string"} if name is None else {"const": name}
    return {"type": "object", "properties": {"signature_name": named, form: schema}, "required": needed}


def _values(specs: Mapping[str, TensorSpec], *, skip: int) -> dict[str, Any]:
    """The inputs of a signature by name, or the only one; `skip` axes of each are left out."""
    schemas = {name: _tensor(name, spec.dtype, spec.shape[skip:]) for name, spec in specs.items()}
    named = {**_object(**schemas), "additionalProperties": False}
    return named if len(specs) != 1 else {"anyOf": [*schemas.values(), named]}


def _tensor(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> dict[str, Any]:
    if shape:
        size = {"minItems": shape[0], "maxItems": shape[0]} if shape[0] >= 0 else {"minItems": 1}
        return {**_list(_tensor(name, dtype, shape[1:])), **size}
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
    if dtype.kind == "O" and name.endswith(BYTES_SUFFIX):
        return {"anyOf": [_STRING, _object(b64={"type": "string", "pattern": "^([A-Za-z0-9+/]{4})*$"})]}
    return {"type": {"O": "string", "b": "boolean"}.get(dtype.kind, "number")}


_PREDICTED = {
    "oneOf": [
        _object(predictions={"type": "array", "description": "To `instances`, an item a row"}),
        _object(outputs={"description": "To `inputs`, whole tensors"}),
    ]
}
# One that is written rightly: the fewest syllables first, up to eight.
_GAP = r"\[MASK\]|\[GAP:(1(-[1-8])?|2(-[2-8])?|3(-[3-8])?|4(-[4-8])?|5(-[5-8])?|6(-[6-8])?|7(-[78])?|8(-8)?)\]"
_FILL_GAPS = {
    **_object(
        texts={
            **_list({"type": "string", "pattern": _GAP}),
            "minItems": 1,
            "maxItems": MAX_GAPS,
            "description": "Each with a gap at least: `[MASK]` once or more, or `[GAP:2-4]` for 2 to 4 syllables",
        }
    ),
    "examples": [{"texts": [_EXAMPLE_TEXT], "top_k": 5}],
}
_FILL_GAPS["properties"]["top_k"] = {
    "type": "integer",
    "minimum": 1,
    "maximum": MAX_CANDIDATES,
    "default": 5,
    "description": "The most candidates for a gap",
}
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


def _parameters(names: list[str], versions: list[int]) -> dict[str, Any]:
    """The parts of paths; which there are, where that may be told."""
    return {
        "name": {
            "schema": {"enum": names} if names else {"type": "string", "pattern": "^[^/:]+$"},
            "description": "The model",
        },
        "version": {
            "schema": {"enum": versions} if versions else {"type": "integer", "minimum": 1},
            "description": "The version",
        },
    }


def _operation(
    summary: str,
    schema: Any,
    *,
    body: Any = None,
    media: str = "application/json",
    errors: list[int] | None = None,
) -> dict[str, Any]:
    """Describe a request.

    Args:
        summary: What it does.
        schema: Of the answer.
        body: Schema of the body, if there is one.
        media: Type of the answer.
        errors: The statuses of errors; what can happen to a request to a model by default.
    """
    if errors is None:
        errors = list(_ERRORS) if body else [400, 401, 404]
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    operation = {
        "summary": summary,
        "responses": {
            "200": {"description": "The answer", "content": {media: {"schema": schema}}},
            **{str(status): {"description": _ERRORS[status], "content": error} for status in errors},
        },
    }
    if body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation
