"""The interface description as a page: plain HTML made from the document, with no script and nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 0 auto; padding: 1rem 1.5rem 4rem; }
nav ul { columns: 2; list-style: none; padding: 0; }
code, pre { font: 0.875rem/1.5 ui-monospace, monospace; }
pre { overflow-x: auto; padding: 0.75rem; border: 1px solid #8886; border-radius: 6px; }
h2 { margin-top: 3rem; border-bottom: 1px solid #8886; }
h3 { margin: 2rem 0 0.25rem; overflow-wrap: anywhere; }
.method { display: inline-block; min-width: 4.5rem; text-transform: uppercase; font-weight: 700; color: #2a7ad2; }
table { border-collapse: collapse; width: 100%; margin: 0.5rem 0; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0; border-bottom: 1px solid #8884; }
a { color: #2a7ad2; }
@media (max-width: 40rem) { nav ul { columns: 1; } }
"""


def render(document: Mapping[str, Any]) -> str:
    """The page for an OpenAPI document."""
    return "".join(_page(document))


def _page(document: Mapping[str, Any]) -> Iterator[str]:
    info = document["info"]
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(info['title'])}: the REST interface</title>"
    yield '<link rel="stylesheet" href="/docs/style.css"></head><body>'
    yield f"<h1>{escape(info['title'])} {escape(info['version'])}: the REST interface</h1>"
    yield f"<p>{escape(info['description'])} The same as <a href='/openapi.json'>OpenAPI document</a>.</p>"
    operations = list(_operations(document))
    yield '<nav aria-label="Operations"><ul>'
    for method, path, operation in operations:
        yield f'<li><a href="#{escape(operation["operationId"])}"><code>{method} {escape(path)}</code></a></li>'
    yield "</ul></nav><main>"
    for tag in document["tags"]:
        yield f'<h2 id="tag-{escape(tag["name"])}">{escape(tag["description"])}</h2>'
        for method, path, operation in operations:
            if tag["name"] in operation["tags"]:
                yield from _operation(method, path, operation, document)
    yield '<h2 id="schemas">Shapes</h2>'
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield f'<h3 id="schema-{escape(name)}">{escape(name)}</h3>'
        shown = {key: value for key, value in schema.items() if key != "description"}
        if "description" in schema:
            yield f"<p>{escape(schema['description'])}</p>"
        yield f"<pre>{escape(json.dumps(shown, indent=2))}</pre>"
    yield "</main></body></html>\n"


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield method, path, {**operation, "pathParameters": item.get("parameters", [])}


def _operation(method: str, path: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    yield f'<section><h3 id="{escape(operation["operationId"])}"><span class="method">{method}</span>'
    yield f"<code>{escape(path)}</code></h3><p>{escape(operation['summary'])}</p>"
    schemes = [name for choice in operation.get("security", document["security"]) for name in choice]
    yield f"<p>Credential: {escape(', '.join(schemes)) or 'none'}.</p>"
    parameters = [*operation["pathParameters"], *operation.get("parameters", [])]
    if parameters:
        yield "<table><thead><tr><th>Parameter</th><th>In</th><th>Takes</th></tr></thead><tbody>"
        for parameter in parameters:
            takes = json.dumps(parameter["schema"])
            text = f" {escape(parameter['description'])}" if "description" in parameter else ""
            need = "" if parameter.get("required") else " (optional)"
            yield f"<tr><td><code>{escape(parameter['name'])}</code>{need}</td><td>{parameter['in']}</td>"
            yield f"<td><code>{escape(takes)}</code>{text}</td></tr>"
        yield "</tbody></table>"
    if "requestBody" in operation:
        yield f"<p>Body: {_content(operation['requestBody'])}</p>"
    yield "<table><thead><tr><th>Answer</th><th>Meaning</th><th>Body</th></tr></thead><tbody>"
    for status, response in sorted(operation["responses"].items()):
        yield f"<tr><td>{status}</td><td>{escape(response['description'])}</td><td>{_content(response)}</td></tr>"
    yield "</tbody></table></section>"


def _content(holder: Mapping[str, Any]) -> str:
    parts = []
    for media_type, content in holder.get("content", {}).items():
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        shape = f'<a href="#schema-{escape(name)}">{escape(name)}</a>' if name else "text"
        parts.append(f"{shape} as <code>{escape(media_type)}</code>")
    return ", ".join(parts) or "none"
