// Follows one saga to its end: server-sent events ring, the API answers what is so now.

import { Problem, call, element, titled, words } from "./api.js";

const ENDED = ["completed", "compensated", "failed"];
const FOR_A_PERSON = ["parked", "compensation_failed"];
const TONES = {
  completed: "good", compensated: "undone", failed: "bad", parked: "alarm", compensation_failed: "alarm",
  succeeded: "good", created: "good", cancelled: "undone", failing: "turning", timed_out: "turning",
  compensating: "turning", in_progress: "moving", waiting: "waiting", skipped: "quiet", pending: "quiet",
};
const OUTCOMES = {
  completed: "Everything was done.",
  compensated: "It failed, and all that was done has been undone.",
  failed: "It failed before anything was done.",
  parked: "It waits for a person to decide.",
  compensation_failed: "Undoing did not succeed; it waits for a person.",
  waiting: "It waits for something outside.",
  pending: "It has not begun.",
};
const CHOREOGRAPHED = {
  succeeded: "Everything was done.",
  created: "Everything was done.",
  failed: "It failed; what was done is undone.",
  cancelled: "It failed; what was done is undone.",
};
const POLL = 700;
const LONGEST = 90000;
const LINGER = 8000;
const $ = (id) => document.getElementById(id);

let current = null;

/** Stop following. */
export function leave() {
  if (current) current.close();
  current = null;
  $("watch").hidden = true;
}

/** Show a saga, and follow it until it ends; `told` is what this user may do, `ended` is called at its end. */
export function watch(id, told, ended) {
  leave();
  const followed = new Followed(id, told, ended);
  current = followed;
  clear();
  $("watch").hidden = false;
  followed.open();
}

function clear() {
  for (const name of ["steps", "lines", "result", "actions"]) $(name).replaceChildren();
  for (const name of ["status", "outcome", "latest", "watch-title"]) $(name).textContent = "";
  $("status").className = "badge";
  delete $("actions").dataset.of;
  $("history").hidden = false;
}

class Followed {
  constructor(id, told, ended) {
    Object.assign(this, { id, told, ended, closed: false, asking: false, again: false, seen: new Set() });
    this.url = `/api/v1/sagas/${id}`;
  }

  open() {
    this.source = new EventSource(`${this.url}/events`);
    this.source.addEventListener("progress", (event) => this.progress(event));
    this.source.addEventListener("end", (event) => {
      this.source.close();
      if (!this.closed) $("latest").textContent = `Ended: ${JSON.parse(event.data).status}.`;
      this.look(true);
    });
    this.source.addEventListener("error", () => {
      // No place for another stream, or nothing to see any more: ask for the saga itself instead.
      if (this.source.readyState === EventSource.CLOSED) this.poll();
    });
    this.look();
  }

  close() {
    this.closed = true;
    this.source.close();
    clearTimeout(this.timer);
  }

  async poll() {
    const saga = await this.look();
    if (this.closed) return;
    if (saga && ENDED.includes(saga.status)) this.ended();
    else this.timer = setTimeout(() => this.poll(), POLL);
  }

  progress(event) {
    if (this.closed || this.seen.has(event.lastEventId)) return;
    this.seen.add(event.lastEventId);
    const told = JSON.parse(event.data);
    const text = [told.step && words(told.step), told.kind.replace(/^(step|saga)_/, "").replace(/_/g, " ")]
      .filter(Boolean)
      .join(": ");
    const time = new Date(told.at).toISOString().slice(11, 23);
    const why = told.reason ? ` – ${told.reason}` : "";
    $("lines").append(element("li", {}, element("time", { datetime: told.at }, time), ` ${text}${why}`));
    $("latest").textContent = text + why;
    this.look();
  }

  /** Fetch and show; while one answer is awaited, further wishes become one. */
  async look(last = false) {
    if (this.asking) {
      this.again = true;
      this.last = this.last || last;
      return null;
    }
    this.asking = true;
    let saga = null;
    try {
      do {
        this.again = false;
        saga = await call("GET", this.url);
        if (this.closed) return null;
        this.show(saga);
      } while (this.again);
    } catch (problem) {
      if (!this.closed) $("latest").textContent = problem.message;
      if (problem.status === 404) this.close();
    } finally {
      this.asking = false;
    }
    if ((last || this.last) && !this.closed) this.ended();
    return saga;
  }

  show(saga) {
    $("watch-title").textContent = `${titled(saga.type)} ${saga.id.slice(-8)}`;
    badge($("status"), saga.status);
    const reason = saga.error && saga.error.reason.replace(/\.$/, "");
    const why = reason ? ` ${[words(saga.error.step), reason].filter(Boolean).join(": ")}.` : "";
    $("outcome").textContent = (OUTCOMES[saga.status] || "") + why;
    saga.steps.forEach((step, index) => showStep(step, index, saga.status));
    showResult(saga.result);
    this.actions(saga);
  }

  actions(saga) {
    const wanted = `${saga.status}`;
    if ($("actions").dataset.of === wanted && $("actions").childElementCount) return;
    $("actions").dataset.of = wanted;
    const made = [];
    if (this.told.compensate && saga.status === "completed") made.push(this.button("Undo it", "compensate"));
    if (this.told.retry && ["failed", "compensated", ...FOR_A_PERSON].includes(saga.status))
      made.push(this.button("Try again", "retry"));
    if (this.told.admin)
      made.push(element("a", { href: this.told.admin.replace(/0{8}-0{4}-0{4}-0{4}-0{12}/, saga.id) }, "Open in the admin"));
    made.push(element("a", { href: this.url }, "See it as JSON"));
    $("actions").replaceChildren(...made.flatMap((one) => [one, " "]));
  }

  button(label, verb) {
    const made = element("button", { type: "button" }, label);
    made.addEventListener("click", async () => {
      made.disabled = true;
      try {
        await call("POST", `${this.url}/${verb}`, { reason: "asked for in the front end" });
        watch(this.id, this.told, this.ended);
        $("watch-title").focus();
      } catch (problem) {
        made.disabled = false;
        $("latest").textContent = problem.message;
      }
    });
    return made;
  }
}

function badge(node, status, text = status.replace(/_/g, " ")) {
  node.className = `badge ${TONES[status] || "quiet"}`;
  node.textContent = text;
}

function took(one) {
  if (!one.started_at || !one.finished_at) return "";
  const ms = new Date(one.finished_at) - new Date(one.started_at);
  return ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function showStep(step, index, of) {
  let line = $("steps").children[index];
  if (!line) {
    line = element(
      "li", {},
      element("span", { class: "step" }, words(step.name)), " ",
      element("span", { class: "badge" }), " ",
      element("span", { class: "facts" }),
      element("p", { class: "undo", hidden: true }),
    );
    $("steps").append(line);
  }
  const [, mark, facts, undo] = line.children;
  badge(mark, step.status);
  const attempts = step.attempts > 1 ? `${step.attempts} attempts` : "";
  const error = step.error && step.status !== "completed" ? step.error.reason : "";
  facts.textContent = [attempts, took(step), error].filter(Boolean).join(" · ");
  const back = step.compensation;
  const undone = back && (back.attempts > 0 || ["compensating", "compensated", "compensation_failed"].includes(step.status));
  undo.hidden = !undone;
  if (undone) {
    const state = { completed: "undone", in_progress: "undoing", failed: "not undone", pending: "to undo" }[back.status];
    const tries = back.attempts > 1 ? `${back.attempts} attempts` : "";
    undo.textContent = [`↩ ${words(back.name || "")}: ${state}`, tries, took(back), back.error && back.error.reason]
      .filter(Boolean)
      .join(" · ");
  }
  line.classList.toggle("now", ["in_progress", "compensating"].includes(step.status) && !ENDED.includes(of));
}

function showResult(result) {
  const entries = Object.entries(result || {}).filter(([, value]) => typeof value !== "object");
  $("result").replaceChildren(
    ...entries.map(([key, value]) => element("div", {}, element("dt", {}, words(key)), element("dd", {}, String(value)))),
  );
}

/** Follow a choreography by replaying its events until it has ended, and a little longer: undoing may follow. */
export function watchChoreography(kind, id) {
  leave();
  clear();
  $("watch").hidden = false;
  $("history").hidden = true;
  $("watch-title").textContent = `Choreographed ${kind} ${id.slice(-8)}`;
  const url = `/api/event-store/replay/${kind}/${id}`;
  let until = Date.now() + LONGEST;
  let known = 0;
  const followed = { closed: false, close() { this.closed = true; } };
  current = followed;
  const look = async () => {
    if (followed.closed) return;
    try {
      const replay = await call("GET", url);
      if (followed.closed) return;
      badge($("status"), replay.state.status);
      $("steps").replaceChildren(
        ...replay.events.map((event) =>
          element("li", {}, element("span", { class: "step" }, event.type), " ",
            element("span", { class: "facts" }, [event.time.slice(11, 23), (event.data || {}).reason].filter(Boolean).join(" · "))),
        ),
      );
      const last = replay.events[replay.events.length - 1];
      if (replay.events.length > known) {
        known = replay.events.length;
        $("latest").textContent = last.type;
        $("outcome").textContent = CHOREOGRAPHED[replay.state.status] || "";
        if (replay.state.status in CHOREOGRAPHED) until = Date.now() + LINGER;
        showResult({ order_id: replay.state.data.order_id ?? null });
        $("actions").replaceChildren(element("a", { href: url }, "See it as JSON"));
      }
    } catch (problem) {
      if (!(problem instanceof Problem) || problem.status !== 404) $("latest").textContent = problem.message;
    }
    if (Date.now() < until) setTimeout(look, POLL / 2);
  };
  look();
}

export const tone = (status) => TONES[status] || "quiet";
