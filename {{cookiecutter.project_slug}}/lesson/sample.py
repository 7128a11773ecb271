"""Makes up a request that a route accepts, from what FastAPI says of the route in its OpenAPI."""

from typing import Any
from urllib.parse import quote

TEXTS = {
    "uuid": "6f2c1a4e-8d3b-4c55-9a17-0b1e2d3c4f5a",
    "date-time": "2030-01-31T12:00:00Z",
    "date": "2030-01-31",
    "time": "12:00:00",
    "duration": "PT1H",
    "email": "learner@example.com",
    "uri": "https://example.com/",
}


def request(path: str, operation: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return `url`, `params`, `headers` and, if the route wants a body, `json`."""
    made: dict[str, Any] = {"url": path, "params": {}, "headers": {}}
    for parameter in operation.get("parameters", []):
        name = parameter["name"]
        text = str(value(parameter["schema"], document))
        if parameter["in"] == "path":
            made["url"] = made["url"].replace("{" + name + "}", quote(text, safe=""))
        elif parameter["required"] and parameter["in"] in ("query", "header"):
            made["params" if parameter["in"] == "query" else "headers"][name] = text
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None:
        made["json"] = value(body["schema"], document)
    return made


def value(schema: dict[str, Any], document: dict[str, Any]) -> Any:
    """Return a value that `schema` allows; its own example, if it has one."""
    if "$ref" in schema:
        model = schema["$ref"].rpartition("/")[2]
        return value(document["components"]["schemas"][model], document)
    for key in ("const", "example", "default"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return value(schema[key][0], document)
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {name: value(properties[name], document) for name in schema.get("required", [])}
        case "array":
            return [value(schema.get("items", {}), document)] * max(schema.get("minItems", 1), 1)
        case "integer" | "number":
            least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
            return min(least, schema.get("maximum", least))
        case "boolean":
            return True
        case "null":
            return None
        case _:
            text = TEXTS.get(schema.get("format", ""), "tea")
            text += "a" * (schema.get("minLength", 0) - len(text))
            return text[: schema.get("maxLength", len(text))]
