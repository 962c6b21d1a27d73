"""Describes the server for programs (OpenAPI 3.1) and, on a page, for people."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml

from tibert_keras.serving.models import ServedModel
from tibert_keras.serving.protocol import BYTES_SUFFIX, DEFAULT_SIGNATURE, TensorSpec
from tibert_keras.serving.texts import MAX_CANDIDATES, MAX_GAPS

_FOLDER = Path(__file__).parent
_STRING = {"type": "string"}
_INSTANCES = 'An item a row: `{input: value}`, or the value of the only input; bytes as `{"b64": ...}`'
_INPUTS = "Whole tensors: `{input: tensor}`, or the tensor of the only input"


def describe(models: Mapping[str, ServedModel], *, with_token: bool) -> dict[str, Any]:
    """Make the OpenAPI description, which reveals nothing of the models if requests need a token."""
    description: dict[str, Any] = json.loads(_template())
    served = {} if with_token else models
    versions = [version for each in served.values() for version in each.versions.values()]
    signatures = {name: signature.inputs for version in versions for name, signature in version.signatures.items()}
    numbers = sorted({number for each in served.values() for number in each.versions})
    parameters = {
        "name": ("The model", {"enum": sorted(served)} if served else {**_STRING, "pattern": "^[^/:]+$"}),
        "version": ("The version", {"enum": numbers} if numbers else {"type": "integer", "minimum": 1}),
    }
    for path, operations in description["paths"].items():
        (operation,) = operations.values()
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": schema, "description": text}
            for name, (text, schema) in parameters.items()
            if f"{{{name}}}" in path
        ]
        if "requestBody" in operation:
            body = operation["requestBody"]["content"]["application/json"]["schema"]
            if path.endswith(":predict"):
                body["oneOf"] = _predict_bodies(signatures)
            elif path.endswith(":fillGaps"):
                body["properties"]["texts"]["maxItems"] = MAX_GAPS
                body["properties"]["top_k"]["maximum"] = MAX_CANDIDATES
    if with_token:
        description["security"] = [{"token": []}]
        description["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return description


def reference_page(description: Mapping[str, Any]) -> str:
    """Make a page of HTML from the description."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True)
    environment.filters["pretty"] = lambda value: json.dumps(value, ensure_ascii=False, indent=2)
    return environment.from_string((_FOLDER / "reference.html").read_text(encoding="utf-8")).render(description)


@cache
def _template() -> str:
    """The part of the description that does not depend on the models, as JSON."""
    template = yaml.safe_load((_FOLDER / "openapi.yaml").read_text(encoding="utf-8"))
    del template["x-parts"]
    return json.dumps(template)


def _predict_bodies(signatures: Mapping[str, Mapping[str, TensorSpec]]) -> list[dict[str, Any]]:
    """The bodies of `:predict`: both forms for each signature, or for any if there are none to show."""
    rows = {"type": "array", "minItems": 1, "description": _INSTANCES}
    if not signatures:
        return [_predict_body(None, "instances", rows), _predict_body(None, "inputs", {"description": _INPUTS})]
    return [
        _predict_body(name, form, schema)
        for name, specs in signatures.items()
        for form, schema in (
            ("instances", {**rows, "items": _values(specs, skip=1)}),
            ("inputs", {**_values(specs, skip=0), "description": _INPUTS}),
        )
    ]


def _predict_body(name: str | None, form: str, schema: dict[str, Any]) -> dict[str, Any]:
    needed = [form] if name in (None, DEFAULT_SIGNATURE) else [form, "signature_name"]
    signature_name = _STRING if name is None else {"const": name}
    return {"type": "object", "properties": {"signature_name": signature_name, form: schema}, "required": needed}


def _values(specs: Mapping[str, TensorSpec], *, skip: int) -> dict[str, Any]:
    """The inputs of a signature by name, or its only input; `skip` axes of each are left out."""
    schemas = {name: _tensor(name, spec.dtype, spec.shape[skip:]) for name, spec in specs.items()}
    named = {"type": "object", "properties": schemas, "required": list(schemas), "additionalProperties": False}
    return named if len(specs) != 1 else {"anyOf": [*schemas.values(), named]}


def _tensor(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> dict[str, Any]:
    if shape:
        size = {"minItems": shape[0], "maxItems": shape[0]} if shape[0] >= 0 else {"minItems": 1}
        return {"type": "array", "items": _tensor(name, dtype, shape[1:]), **size}
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
    if dtype.kind == "O" and name.endswith(BYTES_SUFFIX):
        encoded = {"type": "string", "pattern": "^([A-Za-z0-9+/]{4})*$"}
        return {"anyOf": [_STRING, {"type": "object", "properties": {"b64": encoded}, "required": ["b64"]}]}
    return {"type": {"O": "string", "b": "boolean"}.get(dtype.kind, "number")}
