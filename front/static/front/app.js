// The page: choose a saga, fill in its form, start it, and follow whatever the address names.

import { call, element, freshKey, titled, words } from "./api.js";
import { faultsOf } from "./faults.js";
import { fieldsOf } from "./form.js";
import { leave, tone, watch, watchChoreography } from "./watch.js";

const SAGAS = "/api/v1/sagas";
const FIRST = "sales_saga";
const ORDER = ["sales_saga", "return_saga", "purchase_saga", "checkout_saga", "order_saga", "transfer_saga"];
const told = JSON.parse(document.getElementById("told").textContent);
const form = document.getElementById("form");
const $ = (id) => document.getElementById(id);

let key = freshKey();
let lastSale = null;

function place(type) {
  const index = ORDER.indexOf(type);
  return index < 0 ? ORDER.length : index;
}

/** The form of one definition, with the choice of all others above it. */
function build(definitions, definition) {
  const select = element(
    "select", { id: "type", name: "type" },
    ...definitions.map((one) => element("option", { value: one.type, selected: one === definition }, titled(one.type))),
  );
  select.addEventListener("change", () => {
    build(definitions, definitions.find((one) => one.type === select.value));
    $("type").focus();
  });
  const fields = fieldsOf(definition.input_schema, defaultsOf(definition));
  const twin = told.choreography[definition.type];
  const pattern = twin ? patterns() : null;
  const choreographed = () => Boolean(pattern) && pattern.choreographed();
  const offered = () => faultsOf(choreographed() ? twin : steps(definition), told.kinds);
  let faults = told.faults ? offered() : null;
  const problem = element("p", { class: "problem", role: "alert", tabindex: "-1", hidden: true });
  const start = element("button", { type: "submit", class: "primary" }, "Start");
  form.replaceChildren(
    ...[
      element("div", { class: "field" }, element("label", { for: "type" }, "What"), select),
      pattern && pattern.element,
      fields.element,
      faults && faults.element,
      problem,
      element("p", { class: "actions" }, start),
    ].filter(Boolean),
  );
  $("description").textContent = definition.description;
  if (pattern && faults)
    pattern.element.addEventListener("change", () => {
      const before = faults.element;
      faults = offered();
      before.replaceWith(faults.element);
    });
  form.oninput = () => {
    key = freshKey(); // another request
  };
  form.onsubmit = async (event) => {
    event.preventDefault();
    if (start.disabled) return;
    start.disabled = true;
    problem.hidden = true;
    const { data, inputs } = fields.collect();
    inputs.forEach((input) => input.removeAttribute("aria-invalid"));
    try {
      const chosen = faults ? faults.collect() : [];
      location.hash = choreographed()
        ? await choreograph(twin.kind, data, chosen)
        : await orchestrate(definition.type, data, chosen);
      key = freshKey();
    } catch (error) {
      complain(problem, error, inputs);
    } finally {
      start.disabled = false;
    }
  };
}

/** What of a saga can go wrong: its steps, and their undoing. */
function steps({ steps: declared }) {
  return {
    doing: declared.map((step) => step.name),
    undoing: declared.map((step) => step.compensation).filter(Boolean),
  };
}

/** What the example of a definition cannot know: a return is of the last sale. */
function defaultsOf(definition) {
  if (definition.type !== "return_saga" || !lastSale) return {};
  return {
    original_transaction_id: lastSale.result.transaction_id,
    employee_id: lastSale.data.employee_id,
    items: lastSale.data.items.map((item) => ({ product_id: item.product_id, quantity: 1 })),
  };
}

function patterns() {
  const radio = (value, text, checked) =>
    element("label", { class: "choice" }, element("input", { type: "radio", name: "pattern", value, checked }), ` ${text}`);
  const box = element(
    "fieldset", {},
    element("legend", {}, "Pattern"),
    radio("orchestrated", "Orchestrated: one saga decides each step", true),
    radio("choreographed", "Choreographed: services react to events", false),
  );
  return { element: box, choreographed: () => box.querySelector("[value=choreographed]").checked };
}

/** Start a saga; with faults it is stored first, so that they hit this one and no other. */
async function orchestrate(type, data, faults) {
  const headers = { "Idempotency-Key": key };
  const saga = await call("POST", SAGAS, { type, data, execute: faults.length === 0 }, headers);
  if (faults.length) {
    await call("POST", told.faults, { saga_id: saga.id, faults });
    await call("POST", `${SAGAS}/${saga.id}/execute`, {}, headers);
  }
  return `#/sagas/${saga.id}`;
}

/** Begin a choreography; faults are known by the request that begins it, and so hit this one and no other. */
async function choreograph(kind, { client_id: client, ...body }, faults) {
  const url = `/api/commandes/clients/${client}/${kind}/choreo/`;
  if (faults.length) await call("POST", told.faults, { begins: { path: url, key }, faults });
  const begun = await call("POST", url, body, { "Idempotency-Key": key });
  return `#/choreographed/${kind}/${begun.checkout_id || begun.order_id || Object.values(begun)[0]}`;
}

/** Say what is wrong, at the fields that are, and go to the first of them. */
function complain(problem, error, inputs) {
  const lines = [error.message];
  let first = problem;
  for (const { field, message } of error.errors || []) {
    const path = field.replace(/^data\.?/, "");
    const at = [...inputs.keys()].find((known) => known === path || path.startsWith(`${known}.`));
    lines.push(`${at ? words(at.replace(/\.(\d+)\./g, (_, n) => ` ${Number(n) + 1}: `)) : path}: ${message}`);
    if (!at) continue;
    inputs.get(at).setAttribute("aria-invalid", "true");
    if (first === problem) first = inputs.get(at);
  }
  problem.replaceChildren(...lines.flatMap((line, index) => (index ? [element("br"), line] : [line])));
  problem.hidden = false;
  first.focus();
}

async function showRecent() {
  try {
    const { results } = await call("GET", `${SAGAS}?limit=8`);
    lastSale = results.find((saga) => saga.type === FIRST && saga.status === "completed") || lastSale;
    const lines = results.map((saga) =>
      element(
        "li", {},
        element("a", { href: `#/sagas/${saga.id}` }, `${titled(saga.type)} ${saga.id.slice(-8)}`), " ",
        element("span", { class: `badge ${tone(saga.status)}` }, saga.status.replace(/_/g, " ")), " ",
        element("time", { datetime: saga.created_at }, new Date(saga.created_at).toLocaleTimeString()),
      ),
    );
    $("list").replaceChildren(...(lines.length ? lines : [element("li", {}, "Nothing was started yet.")]));
  } catch (problem) {
    $("list").replaceChildren(element("li", {}, problem.message));
  }
}

/** Follow what the address names. */
function follow() {
  const [, kind, first, second] = location.hash.split("/");
  if (kind === "sagas" && first) watch(first, told, showRecent);
  else if (kind === "choreographed" && second) watchChoreography(first, second);
  else leave();
  showRecent();
}

async function begin() {
  try {
    const { results } = await call("GET", "/api/v1/definitions");
    const definitions = results.sort((a, b) => place(a.type) - place(b.type) || a.type.localeCompare(b.type));
    if (told.start) build(definitions, definitions.find((one) => one.type === FIRST) || definitions[0]);
    else {
      form.hidden = true;
      $("description").textContent = "You may look at sagas, but not start any.";
    }
  } catch (problem) {
    $("description").textContent = problem.message;
  }
}

addEventListener("hashchange", () => {
  follow();
  $("watch-title").focus({ preventScroll: false });
});
begin();
follow();
