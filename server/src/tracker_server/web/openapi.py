"""The OpenAPI document, made from the route table and the types that requests are checked with."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from .answers import Error
from .routes import Access, NoQuery, Route

_REF = "#/components/schemas/{name}"


def describe(routes: list[Route], version: str) -> dict[str, Any]:
    """Return an OpenAPI 3.1 document of all routes."""
    types = [Error]
    for route in routes:
        types += [each for each in (route.answer, route.body) if each is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    by_type = dict(zip(map(id, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tracker server",
            "version": version,
            "description": "Times are integer nanoseconds since 1970. Numbers that are not finite are the "
            'strings "NaN", "Infinity" and "-Infinity".',
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key"},
                "session": {"type": "apiKey", "in": "cookie", "name": "tracker_session"},
            },
        },
    }


def _operation(route: Route, by_type: dict[int, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done"}
    if route.answer is not None:
        good["content"] = {route.media_type: {"schema": by_type[id(route.answer)]}}
    elif route.method != "HEAD":
        good["content"] = {route.media_type: {}}
    failed = {"description": "An error", "content": {"application/json": {"schema": by_type[id(Error)]}}}
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()} {route.path}",
        "summary": route.summary,
        "description": f"Needs {route.access.value}.",
        "parameters": _path_parameters(route.path) + _query_parameters(route.query),
        "responses": {str(route.status): good, "default": failed},
        "security": [] if route.access is Access.PUBLIC else [{"key": []}, {"session": []}],
    }
    if route.body is not None:
        schema = by_type[id(route.body)]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    elif route.raw is not None:
        operation["requestBody"] = {"required": True, "content": {route.raw: {}}}
    return operation


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)(?::[^}]*)?}", path)
    ]


def _query_parameters(query: Any) -> list[dict[str, Any]]:
    if query is NoQuery:
        return []
    (reference,), components = msgspec.json.schema_components([query], ref_template="{name}")
    schema = components[reference["$ref"]]
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": content}
        for name, content in schema["properties"].items()
    ]
