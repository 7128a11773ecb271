// A form field for each property of a JSON schema; `read` gives its value as JSON text.

const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;
let ids = 0;

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

// Follow "$ref", which points into the same document.
function resolve(schema, root) {
  while (schema?.$ref) {
    schema = schema.$ref.slice(2).split("/").reduce((at, key) => at?.[key], root);
  }
  return schema ?? {};
}

function input(schema, value) {
  const text = value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value);
  if (schema.const !== undefined) schema = { ...schema, enum: [schema.const] };
  if (schema.enum) {
    const choices = schema.enum.map((choice) => JSON.stringify(choice));
    const node = el("select", {}, ...choices.map((c, i) => el("option", { value: c, text: String(schema.enum[i]) })));
    if (value !== undefined) node.value = JSON.stringify(value);
    return [node, () => node.value];
  }
  if (schema.type === "boolean") {
    const node = el("input", { type: "checkbox" });
    node.checked = value === true;
    return [node, () => String(node.checked)];
  }
  if (schema.type === "integer" || schema.type === "number") {
    const node = el("input", { inputmode: schema.type === "integer" ? "numeric" : "decimal", autocomplete: "off" });
    node.value = text || "1";
    return [node, () => (NUMBER.test(node.value.trim()) ? node.value.trim() : JSON.stringify(node.value))];
  }
  if (schema.type === "string") {
    const node = el("input", { autocomplete: "off", spellcheck: "false" });
    const fresh = { uuid: () => crypto.randomUUID?.() ?? "", "date-time": () => new Date().toISOString(), date: () => new Date().toISOString().slice(0, 10) };
    node.value = text || (fresh[schema.format]?.() ?? "tea");
    return [node, () => JSON.stringify(node.value)];
  }
  const node = el("textarea", { rows: "3", spellcheck: "false" });
  node.value = value === undefined ? ({ array: "[]", object: "{}" }[schema.type] ?? '""') : JSON.stringify(value);
  return [node, () => { JSON.parse(node.value); return node.value; }];
}

// Build the fields of `root` (a JSON schema of an object) into `parent`.
// Returns read() -> JSON text, and show(errors) for [{loc, msg}].
export function build(parent, root) {
  const schema = resolve(root, root);
  const fields = Object.entries(schema.properties ?? {}).map(([name, raw]) => {
    let field = resolve(raw, root);
    const options = (field.anyOf ?? []).map((option) => resolve(option, root));
    const others = options.filter((option) => option.type !== "null");
    const optional = others.length < options.length;
    if (others.length === 1) field = { ...others[0], default: field.default };
    const given = raw.default ?? field.default;
    const [control, value] = input(field, given ?? undefined);
    control.id = `field-${++ids}`;
    const error = el("p", { class: "error", id: `${control.id}-error` });
    control.setAttribute("aria-describedby", error.id);
    if (optional && control.tagName !== "SELECT" && given == null) control.value = "";
    const kind = field.enum ? "one of these" : field.format ?? field.type ?? "JSON";
    parent.append(el("div", { class: "field" },
      el("label", { for: control.id }, name, " ", el("small", { text: optional ? `${kind}, or nothing` : kind })), control, error));
    const read = () => (optional && control.value === "" ? "null" : value());
    return { name, control, error, read };
  });
  const show = (errors) => {
    for (const { name, control, error } of fields) {
      error.textContent = errors.filter((e) => e.loc?.includes(name)).map((e) => e.msg).join("; ");
      if (error.textContent) control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
    }
    fields.find((field) => field.error.textContent)?.control.focus();
  };
  return {
    show,
    read: () => {
      const pairs = fields.map(({ name, read }) => {
        try {
          return `${JSON.stringify(name)}:${read()}`;
        } catch {
          throw [{ loc: [name], msg: "This must be JSON, such as [1, 2] or {\"a\": 1}" }];
        }
      });
      return `{${pairs.join(",")}}`;
    },
  };
}
