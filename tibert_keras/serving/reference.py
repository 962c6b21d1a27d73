"""The description of the server for people, on a page that needs no other."""

from __future__ import annotations

import html
import json
from typing import Any

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


def reference_page(description: dict[str, Any]) -> str:
    """Make a page of HTML from the description."""
    sections = [
        _section(path, method, operation)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    ]
    return _PAGE.format(title=html.escape(description["info"]["title"]), sections="\n".join(sections))


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
