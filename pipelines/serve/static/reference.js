// The server's own description, for people: drawn from its OpenAPI document, nothing added.

import { byId, make } from "./dom.js";

const ADDRESS = "api/openapi.json";

byId("example").textContent = example();
draw();

async function draw() {
  const place = byId("reference");
  try {
    const response = await fetch(ADDRESS);
    if (!response.ok) throw new Error(`status ${response.status}`);
    const description = await response.json();
    const requests = Object.entries(description.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, about]) => request(description, path, method, about)));
    place.replaceChildren(...requests);
  } catch (error) {
    place.replaceChildren(make("p", { role: "alert" }, `The description cannot be read (${error.message}). Is i2v serve still running? `,
      make("button", { type: "button", onclick: draw }, "Try again")));
  }
  place.removeAttribute("aria-busy");
}

function request(description, path, method, about) {
  const id = `${method}${path.replaceAll(/[^a-z]+/g, "-")}`;
  const parts = [
    make("h4", { id }, make("span", { class: "method" }, method.toUpperCase()), make("code", {}, path)),
    make("p", {}, about.summary),
  ];
  const given = (about.parameters ?? []).filter((each) => each.name !== "authorization");
  if (given.length) {
    parts.push(table("In the address or the headers", given.map((each) => [each.name, each.required, { ...each.schema, description: each.description ?? each.schema.description }])));
  }
  const body = about.requestBody?.content ?? {};
  for (const [kind, { schema }] of Object.entries(body)) {
    if (schema) parts.push(...fields(description, schema, "In the body, as JSON", true));
    else parts.push(make("p", { class: "small" }, `Body: the file itself (${kind})`));
  }
  parts.push(...answers(description, about.responses));
  return make("section", { class: "request", "aria-labelledby": id }, ...parts);
}

function answers(description, responses) {
  const parts = [];
  const refusals = [];
  for (const [status, { description: words, content = {} }] of Object.entries(responses)) {
    if (Number(status) >= 400) {
      refusals.push(make("b", {}, status), ` ${status === "422" && words === "Validation Error" ? "the request makes no sense" : words}; `);
      continue;
    }
    for (const [kind, { schema }] of Object.entries(content)) {
      const many = schema?.type === "array";
      const found = schema ? fields(description, many ? schema.items : schema, many ? "Answer: a list of" : "Answer") : [];
      parts.push(...(found.length ? found : [make("p", { class: "small" }, `Answer: ${words} (${kind})`)]));
    }
  }
  if (refusals.length) {
    refusals.push(refusals.pop().replace(/; $/, ""));
    parts.push(make("p", { class: "small" }, "Refused with ", ...refusals));
  }
  return parts;
}

/** A table of an object's fields, and of those of the objects in it. isAsked: somebody must give them. */
function fields(description, schema, caption, isAsked = false) {
  const shape = resolved(description, schema);
  if (!shape.properties) return [];
  const required = shape.required ?? [];
  const rows = Object.entries(shape.properties).map(([name, each]) => [name, required.includes(name), each]);
  const inner = Object.entries(shape.properties).flatMap(([name, each]) => {
    const schema = each.items ?? each;
    return schema.$ref ? fields(description, schema, each.items ? `Each of ${name}` : name, isAsked) : [];
  });
  return [table(caption, rows, isAsked), ...inner];
}

function table(caption, rows, isAsked = true) {
  const lines = rows.map(([name, isNeeded, schema]) => make("tr", {},
    make("th", { scope: "row" }, make("code", {}, name), isNeeded && isAsked ? make("span", { class: "needed" }, "needed") : null),
    make("td", {}, kind(schema)),
    make("td", {}, [schema.description, preset(schema)].filter(Boolean).join("; "))));
  return make("div", { class: "table" }, make("table", {}, make("caption", {}, caption), make("tbody", {}, ...lines)));
}

function preset({ default: value }) {
  return value === undefined || value === null || value === "" ? "" : `${value} unless given`;
}

function kind(schema) {
  const choices = (schema.anyOf ?? []).filter((each) => each.type !== "null");
  if (choices.length) return choices.map(kind).join(" or ");
  if (schema.$ref) return schema.$ref.split("/").pop().replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();
  if (schema.enum) return schema.enum.join(", ");
  if (schema.prefixItems) return `[${schema.prefixItems.map(kind).join(", ")}]`;
  if (schema.type === "array") return `list of ${kind(schema.items ?? {})}${bounds(schema.minItems, schema.maxItems)}`;
  const name = { integer: "whole number", number: "number", string: "text", boolean: "true or false" }[schema.type] ?? schema.type ?? "anything";
  const low = schema.minimum ?? (schema.exclusiveMinimum === undefined ? undefined : `over ${schema.exclusiveMinimum}`);
  const high = schema.maximum ?? (schema.exclusiveMaximum === undefined ? undefined : `under ${schema.exclusiveMaximum}`);
  return name + bounds(low, high);
}

function bounds(low, high) {
  if (low !== undefined && high !== undefined) return `, ${low} to ${high}`;
  if (low !== undefined) return `, at least ${low}`;
  return high === undefined ? "" : `, at most ${high}`;
}

function resolved(description, schema) {
  return schema.$ref ? description.components.schemas[schema.$ref.split("/").pop()] : schema;
}

function example() {
  return `import base64, json, urllib.request

address, token = "${location.origin}", "TOKEN"

def ask(path, body=None):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    return urllib.request.urlopen(urllib.request.Request(address + path, data, headers))

run = next(each for each in json.load(ask("/api/runs")) if "poke" in each["can"])
picture = json.load(ask("/api/examples?run=" + run["name"]))[0]
arrow = {"x": 0.5, "y": 0.4, "dx": 0.1, "dy": 0.0}
question = {"run": run["name"], "image": picture["id"], "arrows": [arrow]}
for line in ask("/api/poke", question):
    said = json.loads(line)
    if said["type"] == "frame":
        with open(f"frame-{said['index']:02}.png", "wb") as file:
            file.write(base64.b64decode(said["png"]))`;
}
