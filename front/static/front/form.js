// A form for the JSON schema of a saga's input, filled with the example that it brings along.

import { element, words } from "./api.js";

const MONEY = "\\d{1,10}([.,]\\d{1,2})?";

/** The fields of `schema`: `collect()` answers `{data, inputs}`, inputs by their path in the data. */
export function fieldsOf(schema, defaults = {}) {
  const example = { ...(schema.examples && schema.examples[0]), ...defaults };
  const resolve = (part) =>
    part.$ref ? { ...schema.$defs[part.$ref.split("/").pop()], ...part, $ref: undefined } : part;
  const required = new Set(schema.required || []);
  const controls = Object.entries(schema.properties).map(([name, part]) => [
    name,
    control(resolve, resolve(part), name, name, example[name] ?? part.default, required.has(name)),
  ]);
  const box = element("div", { class: "fields" }, ...controls.map(([, made]) => made.element));
  keepTheSum(box, Object.fromEntries(controls));
  return {
    element: box,
    collect() {
      const data = {};
      const inputs = new Map();
      for (const [name, made] of controls) {
        const value = made.collect(name, inputs);
        if (value !== undefined) data[name] = value;
      }
      return { data, inputs };
    },
  };
}

function control(resolve, part, name, id, value, required) {
  if (part.type === "array") {
    const item = resolve(part.items);
    return item.type === "object"
      ? table(resolve, item, name, id, value || [{}], part.minItems || 0)
      : numbers(part, name, id, value || []);
  }
  return field(part, name, id, value, required);
}

const isMoney = (part) => "decimal_places" in part || (part.anyOf || []).some(isMoney);

function field(part, name, id, value, required) {
  const attributes = { id: `f-${id}`, name: id, required, value: value ?? "" };
  const money = isMoney(part);
  if (money) Object.assign(attributes, { inputmode: "decimal", pattern: MONEY, title: "An amount such as 29.99" });
  else if (part.type === "integer")
    Object.assign(attributes, { type: "number", min: part.minimum, max: part.maximum, step: 1 });
  else if (part.format === "date") attributes.type = "date";
  else Object.assign(attributes, { maxlength: part.maxLength, minlength: part.minLength });
  const input = element("input", attributes);
  if (part.pattern && !money && !part.pattern.includes("\\x")) input.pattern = part.pattern.replace(/^\^|\$$/g, "");
  const label = words(name.replace(/_id$/, "")) + (required ? "" : " (optional)");
  return {
    input,
    element: element("div", { class: "field" }, element("label", { for: input.id }, label), input),
    collect(path, inputs) {
      inputs.set(path, input);
      const text = input.value.trim();
      if (text === "") return required ? text : undefined;
      if (part.type === "integer") return Number(text);
      return money ? text.replace(",", ".") : text;
    },
  };
}

function numbers(part, name, id, value) {
  const made = field({ type: "string" }, name, id, value.join(", "), true);
  const hint = element("p", { class: "hint", id: `f-${id}-hint` }, "Numbers, with commas between them");
  made.input.setAttribute("aria-describedby", hint.id);
  made.input.pattern = "\\s*\\d+(\\s*,\\s*\\d+)*\\s*";
  made.element.append(hint);
  return {
    element: made.element,
    collect(path, inputs) {
      inputs.set(path, made.input);
      return made.input.value.split(",").map((text) => Number(text.trim()));
    },
  };
}

let serial = 0;

function table(resolve, item, name, id, values, least) {
  const rows = [];
  const body = element("div", { class: "rows" });
  const add = element("button", { type: "button", class: "quiet" }, "Add a line");
  const box = element("fieldset", {}, element("legend", {}, words(name)), body, add);

  const number = () => {
    rows.forEach((row, index) => {
      row.element.setAttribute("aria-label", `Line ${index + 1}`);
      row.remove.setAttribute("aria-label", `Remove line ${index + 1}`);
      row.remove.hidden = rows.length <= Math.max(least, 1);
    });
    box.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const append = (value) => {
    serial += 1;
    const required = new Set(item.required || []);
    const made = Object.entries(item.properties).map(([key, part]) => [
      key,
      field(resolve(part), key, `${id}-${serial}-${key}`, value[key] ?? part.default, required.has(key)),
    ]);
    const remove = element("button", { type: "button", class: "quiet remove" }, "×");
    const row = {
      remove,
      made,
      element: element("div", { class: "row", role: "group" }, ...made.map(([, one]) => one.element), remove),
    };
    remove.addEventListener("click", () => {
      rows.splice(rows.indexOf(row), 1);
      row.element.remove();
      number();
      add.focus();
    });
    rows.push(row);
    body.append(row.element);
    return row;
  };
  add.addEventListener("click", () => {
    const row = append({ ...values[0], product_id: "" });
    number();
    row.made[0][1].input.focus();
  });
  values.forEach(append);
  number();
  return {
    element: box,
    rows,
    collect: (path, inputs) =>
      rows.map((row, index) =>
        Object.fromEntries(row.made.map(([key, one]) => [key, one.collect(`${path}.${index}.${key}`, inputs)])),
      ),
  };
}

/** The amount follows the lines until somebody writes their own. */
function keepTheSum(box, controls) {
  const { amount, items } = controls;
  if (!amount || !items || !items.rows || !items.rows[0].made.some(([key]) => key === "price")) return;
  let own = false;
  amount.input.addEventListener("input", () => {
    own = amount.input.value !== "";
  });
  box.addEventListener("input", (event) => {
    if (own || event.target === amount.input) return;
    let cents = 0;
    for (const row of items.rows) {
      const { price, quantity } = Object.fromEntries(row.made);
      cents += Math.round(Number(price.input.value.replace(",", ".")) * 100) * Number(quantity.input.value);
    }
    if (Number.isFinite(cents)) amount.input.value = (cents / 100).toFixed(2);
  });
}
