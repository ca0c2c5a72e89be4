// Calls of the project's own API, as the user who is logged in.

const token = () => document.querySelector("[name=csrfmiddlewaretoken]").value;

/** What went wrong; `errors` names fields, `status` is 0 if nothing answered. */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail || `The server answered ${status}.`);
    this.status = status;
    this.errors = document.errors || [];
  }
}

/** The JSON that is answered; null if nothing is. Throws a Problem. */
export async function call(method, url, body, headers = {}) {
  const sent = { Accept: "application/json", ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  if (method !== "GET") sent["X-CSRFToken"] = token();
  let answer;
  let text;
  try {
    answer = await fetch(url, { method, headers: sent, body: body && JSON.stringify(body) });
    text = await answer.text();
  } catch {
    throw new Problem(0, { detail: "The server cannot be reached. Try again." });
  }
  let known = null;
  try {
    known = text ? JSON.parse(text) : null;
  } catch {
    throw new Problem(answer.status, {});
  }
  if (answer.status === 401) throw new Problem(401, { detail: "You are logged out. Load the page again." });
  if (!answer.ok) throw new Problem(answer.status, known || {});
  return known;
}

/** A key for a request that may have to be repeated. */
export function freshKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** An element with attributes and children; a child that is null or undefined is left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** `sales_saga` as "Sales", `reserve-stock` as "Reserve stock". */
export function words(name) {
  const plain = name.replace(/_saga$/, "").replace(/[_-]+/g, " ");
  return plain.charAt(0).toUpperCase() + plain.slice(1);
}

/** A type of saga as people call one of it. */
export function titled(type) {
  return type === "sales_saga" ? "Sale" : words(type);
}
