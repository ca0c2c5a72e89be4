"""A small participant in memory that keeps the contract, but for one defect if it is given one.

It has one action, `take`, undone by `give-back`, and one query, `count`.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from tests.serving import CREDENTIAL

Answer = tuple[int, dict[str, Any]]
MOST = 10
EARLY_SECONDS = 0.2

# What may be wrong, and the check that must find it.
DEFECTS: Mapping[str, str] = {
    "forgets keys": "replay",
    "answers again but does it twice": "replay",
    "compares no requests": "mismatch",
    "validates first": "key before validation",
    "takes calls without a key": "key required",
    "takes expired keys": "expired key",
    "asks for no credential": "credentials",
    "tells the status to anybody": "credentials",
    "knows every operation": "unknown operation",
    "answers without an envelope": "success",
    "refuses with 400": "refusal",
    "refuses with 200": "refusal",
    "refuses without a code": "refusal",
    "fails on a body that is no JSON": "invalid request",
    "forgets refusals": "refusal kept",
    "cannot undo a refused action": "refusal kept",
    "has no status query": "status query",
    "says nothing of the result": "status query",
    "answers 404 for an unknown key": "status query",
    "looks up and inserts apart": "at once",
    "undoes nothing": "undo",
    "undoes by the body": "undo",
    "undoes without a key to undo": "undo",
    "undoes again and again": "undo",
    "undoes twice": "undo twice",
    "refuses a second undoing": "undo twice",
    "refuses to undo what was never done": "undo first",
    "no tombstone": "undo first",
    "applies the late action": "undo first",
    "keeps keys of undoings loosely": "undo of something else",
    "answers the late action as done": "undo first",
}


@dataclass
class Kept:
    """What is kept under a key."""

    request: str
    answer: Answer
    state: str
    undone: bool = False


@dataclass
class Small:
    """The participant; `has(...)` asks whether a defect is its own."""

    defect: str
    taken: int = 0
    kept: dict[str, Kept] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    inside: int = 0
    another: threading.Condition = field(default_factory=threading.Condition)

    def has(self, defect: str) -> bool:
        """Whether this one has that defect."""
        assert defect in DEFECTS
        return self.defect == defect

    def answer(self, path: str, headers: Mapping[str, str], body: str) -> Answer:
        """The answer to one request."""
        operation = path.removeprefix("/saga/")
        told = operation.startswith("operations/")
        open_to_all = self.has("asks for no credential") or (told and self.has("tells the status to anybody"))
        if headers.get("Authorization") != f"Bearer {CREDENTIAL}" and not open_to_all:
            return error(401, "unauthorized")
        if told:
            return self.status(unquote(operation.removeprefix("operations/")))
        if operation == "count":
            return self.count(body)
        if operation not in ("take", "give-back"):
            return success({}) if self.has("knows every operation") else error(404, "unknown_operation")
        return self.effect(operation, headers, body)

    def effect(self, operation: str, headers: Mapping[str, str], body: str) -> Answer:
        """An action or a compensation, once its headers are in order."""
        key, undoes = headers.get("Idempotency-Key", ""), headers.get("X-Compensates", "")
        if not key and not self.has("takes calls without a key"):
            return error(400, "bad_header")
        if headers.get("X-Key-Issued-At", "") < "2020" and not self.has("takes expired keys"):
            return error(410, "key_expired")
        if operation == "give-back":
            if not undoes:
                return success({}) if self.has("undoes without a key to undo") else error(400, "bad_header")
            with self.lock:
                return self.once(key, f"give-back {undoes} {body}", lambda: self.undo(undoes, body))
        if self.has("looks up and inserts apart"):
            return self.once(key, f"take {body}", lambda: self.take(body))
        with self.lock:
            if self.has("validates first") and parsed(body) is None:
                return refused("invalid_request")
            return self.once(key, f"take {body}", lambda: self.take(body))

    def once(self, key: str, request: str, act: Any) -> Answer:
        """The stored answer of a key, or that of the effect, which is stored."""
        known = self.kept.get(key)
        loose = self.has("keeps keys of undoings loosely") and request.startswith("give-back")
        again = self.has("undoes again and again") and request.startswith("give-back")
        if known is not None and not self.has("forgets keys") and not again:
            if known.state == "tombstone":
                if not self.has("applies the late action"):
                    return refused("compensated_first")
            elif known.request != request and not loose and not self.has("compares no requests"):
                return refused("key_mismatch", 422)
            else:
                if self.has("answers again but does it twice") and request.startswith("take"):
                    self.taken += 1
                return known.answer
        if self.has("looks up and inserts apart"):
            self.wait_for_another()
        answer: Answer = act()
        self.inside = 0
        state = "completed" if answer[0] == 200 and answer[1]["status"] == "success" else "failed"
        if state == "completed" or not self.has("forgets refusals"):
            self.kept[key] = Kept(request, answer, state)
        return answer

    def wait_for_another(self) -> None:
        """Until a second call is here too, as the race wants it; a call that is alone goes on."""
        with self.another:
            self.inside += 1
            self.another.notify_all()
            self.another.wait_for(lambda: self.inside > 1, EARLY_SECONDS)

    def take(self, body: str) -> Answer:
        """Take an amount, up to a limit."""
        given = parsed(body)
        if given is None:
            if self.has("fails on a body that is no JSON"):
                return error(500, "internal_error")
            return refused("invalid_request")
        if given["amount"] > MOST:
            return self.too_much()
        with self.lock:
            self.taken += given["amount"]
            number = len(self.kept)
        if self.has("answers without an envelope"):
            return 200, {"status": "ok", "taken": number}
        return success({"taken": number, "amount": given["amount"]})

    def too_much(self) -> Answer:
        """The refusal of an amount."""
        if self.has("refuses with 400"):
            return 400, refused("too_much")[1]
        if self.has("refuses with 200"):
            return 200, refused("too_much")[1]
        if self.has("refuses without a code"):
            return 409, {"status": "failed", "reason": "Too much."}
        return refused("too_much")

    def undo(self, action: str, body: str) -> Answer:
        """Give back what was taken under the key of an action."""
        known = self.kept.get(action)
        if known is None:
            if self.has("refuses to undo what was never done"):
                return refused("unknown_action")
            if self.has("answers the late action as done"):
                self.kept[action] = Kept("", success({}), "completed", undone=True)
            elif not self.has("no tombstone"):
                self.kept[action] = Kept("", refused("compensated_first"), "tombstone")
            return success({"nothing_to_undo": "never_applied"})
        if known.state != "completed":
            if known.state == "failed" and self.has("cannot undo a refused action"):
                return refused("not_done")
            return success({"nothing_to_undo": "refused"})
        if self.has("undoes by the body") and not (parsed(body) or {}).get("taken"):
            return refused("taken_is_missing")
        if known.undone and not self.has("undoes twice"):
            if self.has("refuses a second undoing"):
                return refused("already_undone")
            return success({"nothing_to_undo": "already_undone"})
        known.undone = True
        if not self.has("undoes nothing"):
            self.taken -= known.answer[1].get("data", {}).get("amount", 0)
        return success({"given_back": len(self.kept)})

    def status(self, key: str) -> Answer:
        """What became of a key."""
        known = self.kept.get(key)
        if self.has("has no status query"):
            return error(404, "unknown_operation")
        if known is None:
            if self.has("answers 404 for an unknown key"):
                return error(404, "unknown_key")
            return success({"state": "unknown"})
        if known.state == "completed":
            result = {} if self.has("says nothing of the result") else known.answer[1].get("data")
            return success({"state": "completed", "result": result, "undone": known.undone})
        return success({"state": "failed", **{n: known.answer[1].get(n) for n in ("code", "reason")}})

    def count(self, body: str) -> Answer:
        """How much is taken."""
        given = parsed(body)
        if given is None or "of" in given:
            if given is None and self.has("fails on a body that is no JSON"):
                return error(500, "internal_error")
            return refused("invalid_request", 422) if given is None else self.too_much()
        return success({"taken": self.taken})


def success(data: dict[str, Any]) -> Answer:
    """An answer in the envelope of a success."""
    return 200, {"status": "success", "data": data}


def refused(code: str, status: int = 409) -> Answer:
    """An answer in the envelope of a refusal."""
    return status, {"status": "failed", "code": code, "reason": f"{code} it is."}


def error(status: int, code: str) -> Answer:
    """An answer that is neither."""
    return status, {"status": "error", "code": code, "reason": f"{code} it is."}


def parsed(body: str) -> dict[str, Any] | None:
    """The JSON object of a body; None if it is none."""
    try:
        document = json.loads(body or "{}")
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


class Server(ThreadingHTTPServer):
    """Takes as many connections at once as a check makes."""

    daemon_threads = True
    request_queue_size = 64


@contextmanager
def serving(defect: str) -> Iterator[str]:
    """The URL of a small participant with that defect, or with none if it is empty."""
    participant = Small(defect)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            status, document = participant.answer(self.path, dict(self.headers), body)
            raw = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST

        def log_message(self, *arguments: object) -> None:
            """Says nothing."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
