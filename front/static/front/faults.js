// What should go wrong: faults for steps, or for their undoing, of the saga that is about to start.

import { element, words } from "./api.js";

const TIMES = [["1", "once"], ["2", "twice"], ["3", "three times"], ["", "always"]];
const MOST = 5;

/** The choices among what is done and undone; `collect()` answers the faults chosen. */
export function faultsOf({ doing, undoing }, kinds) {
  const rows = [];
  const body = element("div", { class: "rows" });
  const add = element("button", { type: "button", class: "quiet" }, "Something else as well");
  const option = ([value, text]) => element("option", { value }, text);
  const select = (label, ...options) => {
    const id = `fault-${rows.length}-${label.replace(" ", "-")}`;
    const made = element("select", { id }, ...options);
    return [made, element("div", { class: "field" }, element("label", { for: id }, words(label)), made)];
  };
  const group = (label, names) =>
    element("optgroup", { label }, ...names.map((name) => option([name, words(name)])));

  const append = () => {
    const [where, first] = select(
      "step",
      option(["", "Nothing"]),
      group("When doing", doing),
      undoing.length ? group("When undoing", undoing) : null,
    );
    const [often, second] = select("how often", ...TIMES.map(option));
    const [what, third] = select("how", ...Object.entries(kinds).map(option));
    const follow = () => {
      second.hidden = third.hidden = where.value === "";
      add.hidden = rows.length >= MOST || rows.some((row) => row.where.value === "");
    };
    where.addEventListener("change", follow);
    rows.push({ where, what, often });
    body.append(element("div", { class: "row", role: "group", "aria-label": `Fault ${rows.length}` }, first, second, third));
    follow();
    return where;
  };
  add.addEventListener("click", () => append().focus());
  append();
  return {
    element: element("fieldset", { id: "faults" }, element("legend", {}, "What should go wrong?"), body, add),
    collect: () =>
      rows
        .filter((row) => row.where.value)
        .map(({ where, what, often }) => ({
          step: where.value,
          kind: what.value,
          times: often.value ? Number(often.value) : null,
        })),
  };
}
