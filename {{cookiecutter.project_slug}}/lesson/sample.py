"""The app's events and routes, and for each route a request that its OpenAPI schema accepts."""

import re
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from lesson.feedback import FEEDBACK

Known = Mapping[str, Any]  # what earlier answers said, such as {"order_id": "6f2c..."}


def below(base: type[Any]) -> list[type[Any]]:
    """Return all subclasses of a class."""
    return [each for sub in base.__subclasses__() for each in (sub, *below(sub))]


def routes_of(app: FastAPI) -> dict[str, tuple[Any, Any]]:
    """Return the handler of each route that /docs shows, and what OpenAPI says about it."""
    paths = app.openapi()["paths"]
    return {
        f"{method} {route.path_format}": (route.endpoint, paths[route.path_format][method.lower()])
        for route in reversed(list(iter_route_contexts(app.routes)))  # the first one answers
        for method in sorted(route.methods or ())
        if route.endpoint and method.lower() in paths.get(route.path_format or "", ())
    }


def request(path: str, operation: Any, document: Any, known: Known) -> dict[str, Any]:
    """Return what TestClient.request takes; what's named like something `known` gets its value."""
    given: dict[str, Any] = {"path": {}, "query": {}, "header": {}, "cookie": {}}
    for parameter in operation.get("parameters", []):
        if parameter["required"]:
            name = parameter["name"]
            text = known.get(name, value(parameter["schema"], document, known))
            given[parameter["in"]][name] = str(text[0] if isinstance(text, list) else text)
    made = {"params": given["query"], "headers": given["header"], "cookies": given["cookie"]}
    made["url"] = path.format_map({name: quote(text, "") for name, text in given["path"].items()})
    if body := operation.get("requestBody", {}).get("content", {}).get("application/json"):
        made["json"] = value(body["schema"], document, known)
    return made


def value(schema: Any, document: Any, known: Known = MappingProxyType({})) -> Any:
    """Return a value that `schema` allows; its own example, if it has one."""
    if "$ref" in schema:
        model = schema["$ref"].rpartition("/")[2]
        return value(document["components"]["schemas"][model], document, known)
    for key in ("const", "example", "default", "examples", "enum"):
        if key in schema and schema[key] != []:
            return schema[key][0] if key in ("examples", "enum") else schema[key]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return value(schema[key][0], document, known)
    match schema.get("type"):
        case "object":
            fields, required = schema.get("properties", {}), schema.get("required", [])
            made = {name: value(fields[name], document, known) for name in required}
            return made | {name: known[name] for name in required if name in known}
        case "array":
            alike = [schema.get("items", {})] * schema.get("minItems", 1)
            return [value(each, document, known) for each in schema.get("prefixItems", alike)]
        case "integer" | "number":
            above = schema.get("exclusiveMinimum", 0) + schema.get("multipleOf", 1)
            least = schema.get("minimum", above)
            return min(least, schema.get("maximum", least))
        case "boolean" | "null" as kind:
            return True if kind == "boolean" else None
    text = FEEDBACK["formats"].get(schema.get("format"), "tea")
    least, most = schema.get("minLength", 0), schema.get("maxLength", 1000)
    if "pattern" in schema:
        from hypothesis import Phase, errors, find, settings, strategies  # takes half a second

        quick = settings(database=None, derandomize=True, phases=[Phase.generate])
        with suppress(re.error, errors.HypothesisException):
            fits = strategies.from_regex(schema["pattern"]).filter(str.isprintable)
            return find(fits, lambda text: least <= len(text) <= most, settings=quick)
    return text[:most] + "a" * (least - len(text))
