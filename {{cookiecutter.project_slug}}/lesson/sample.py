"""The app's events and routes, and for each route a request that its OpenAPI schema accepts."""

from collections.abc import Mapping
from re import _parser  # type: ignore[attr-defined]  # the parser of re itself
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
        for route in iter_route_contexts(app.routes)
        for method in sorted(route.methods or ())
        if route.endpoint and method.lower() in paths.get(route.path_format or "", ())
    }


def request(path: str, operation: Any, document: Any, known: Known) -> dict[str, Any]:
    """Return what TestClient.request takes; what's named like something `known` gets its value."""
    made: dict[str, Any] = {"url": path, "params": {}, "headers": {}, "cookies": {}}
    places = {"query": "params", "header": "headers", "cookie": "cookies"}
    for parameter in operation.get("parameters", []):
        name = parameter["name"]
        text = known.get(name, value(parameter["schema"], document, known))
        text = text[0] if isinstance(text, list) else text
        if parameter["in"] == "path":
            made["url"] = made["url"].replace("{" + name + "}", quote(str(text), safe=""))
        elif parameter["required"]:
            made[places[parameter["in"]]][name] = str(text)
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None:
        made["json"] = value(body["schema"], document, known)
    return made


def value(schema: Any, document: Any, known: Known = MappingProxyType({})) -> Any:
    """Return a value that `schema` allows; its own example, if it has one."""
    if "$ref" in schema:
        model = schema["$ref"].rpartition("/")[2]
        return value(document["components"]["schemas"][model], document, known)
    for key in ("const", "example", "default", "examples", "enum"):
        if key in schema:
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
    if "pattern" in schema:
        return matching(_parser.parse(schema["pattern"]))
    text = FEEDBACK["formats"].get(schema.get("format"), "tea")
    text += "a" * (schema.get("minLength", 0) - len(text))
    return text[: schema.get("maxLength", len(text))]


def matching(parsed: Any) -> str:
    """Return a text that matches a pattern, as short as possible."""
    text = ""
    for kind, what in parsed:
        match str(kind):
            case "LITERAL":
                text += chr(what)
            case "ANY" | "NOT_LITERAL" | "NEGATE":
                text += "a"
            case "RANGE":
                text += chr(what[0])
            case "CATEGORY":
                text += {"DIGIT": "1", "SPACE": " "}.get(str(what).partition("_")[2], "a")
            case "IN":
                text += matching(what[:1])
            case "BRANCH":
                text += matching(what[1][0])
            case "SUBPATTERN":
                text += matching(what[-1])
            case "MAX_REPEAT" | "MIN_REPEAT":
                text += matching(what[2]) * max(what[0], 1)
    return text
