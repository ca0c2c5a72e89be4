"""Whether a participant keeps the contract: checks by HTTP that anyone can point at a URL.

Every check makes its trials under fresh keys and undoes them, so that a participant which
conforms is left as it was, up to the rows that record the doing and the undoing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException

from participants.contract.trials import Ask, Said, Session, Target, Trial, fresh

AT_ONCE = 8
LONG_AGO = "2000-01-01T00:00:00+00:00"
MISMATCH = "key_mismatch"

Check = Callable[[Session, Trial], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One way in which a participant breaks the contract."""

    check: str
    operation: str
    problem: str

    def __str__(self) -> str:
        return f"{self.operation}: {self.check}: {self.problem}"


def examine(target: Target, trials: Sequence[Trial]) -> Iterator[Finding]:
    """Run every check on every trial that it applies to."""
    for trial in trials:
        for check in checks_for(trial):
            name = check.__name__.replace("_", " ")
            for problem in problems(check, Session(target, trials), trial):
                yield Finding(name, trial.operation, problem)


def obstacle(target: Target) -> str:
    """Why no check would tell anything: nobody answers, or not to us. Empty if nothing is in the way."""
    try:
        said = target.status(fresh())
    except (OSError, HTTPException) as error:
        return f"{target.url} does not answer: {error}"
    if said.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return f"{target.url} does not accept the credential: {said}"
    return ""


def checks_for(trial: Trial) -> list[Check]:
    """The checks that apply to a trial."""
    checks: list[Check] = [success, credentials, unknown_operation]
    if trial.refused is not None:
        checks.append(refusal)
    if trial.method == "POST":
        checks.append(invalid_request)
    if trial.query:
        return checks
    checks += [status_query, replay, mismatch, expired_key, at_once]
    if not trial.key_optional:
        checks.append(key_required)
    if trial.method == "POST":
        checks.append(key_before_validation)
    if trial.refused is not None:
        checks.append(refusal_kept)
    if trial.undo:
        checks += [undo, undo_twice, undo_first, undo_of_something_else, action_and_undo_at_once]
    return checks


def problems(check: Check, session: Session, trial: Trial) -> Iterator[str]:
    """What a check finds; a call without an answer is a finding too."""
    try:
        yield from check(session, session.ready(trial))
    except LookupError as missing:
        yield str(missing)
    except (OSError, HTTPException) as failure:
        yield f"no answer: {failure!r}"
    try:
        yield from session.tidy()
    except (OSError, HTTPException) as failure:
        yield f"no answer to the undoing: {failure!r}"


# --- Shapes -------------------------------------------------------------------------------------------


def success(session: Session, trial: Trial) -> Iterator[str]:
    """200 or 201 with `{"status": "success", "data": {...}}`."""
    said = session.target.send(trial) if trial.query else session.act(trial, fresh())
    if not said.done:
        yield f"expected 200 or 201 with a success envelope, got {said}"


def credentials(session: Session, trial: Trial) -> Iterator[str]:
    """Without a valid credential 401, and nothing is done or told."""
    key = fresh()
    for wrong in ("", "not-the-credential"):
        said = session.target.send(trial, key=key, credential=wrong)
        if said.status != HTTPStatus.UNAUTHORIZED:
            yield f"expected 401 with the credential {wrong!r}, got {said}"
    told = session.target.send(Ask(operation=f"operations/{key}", method="GET"), credential="wrong")
    if told.status != HTTPStatus.UNAUTHORIZED:
        yield f"expected 401 from the status query, got {told}"


def unknown_operation(session: Session, trial: Trial) -> Iterator[str]:
    """404 for an operation that is not there, so that nobody takes it for done or refused."""
    said = session.target.send(Ask(operation="no-such-operation"), key=fresh())
    if said.status != HTTPStatus.NOT_FOUND:
        yield f"expected 404, got {said}"


def refusal(session: Session, trial: Trial) -> Iterator[str]:
    """409 or 422 with `{"status": "failed", "code": "...", "reason": "..."}`."""
    said = session.target.send(refused_one(trial), key="" if trial.query else fresh())
    if not said.refused:
        yield f"expected 409 or 422 with a refusal, got {said}"


def invalid_request(session: Session, trial: Trial) -> Iterator[str]:
    """A body that is no JSON is a refusal like any other: it will never succeed."""
    said = session.target.send(trial, raw="no json", key="" if trial.query else fresh())
    if not said.refused:
        yield f"expected 409 or 422 with a refusal, got {said}"


def refused_one(trial: Trial) -> Trial:
    """The trial with the fields that are refused."""
    return trial.model_copy(update={"fields": trial.fields | (trial.refused or {})})


# --- Keys (rules 11, 22, 23) --------------------------------------------------------------------------


def status_query(session: Session, trial: Trial) -> Iterator[str]:
    """`unknown` for a new key, `completed` with the result for one that was used."""
    key = fresh()
    before = session.target.status(key)
    if before.data.get("state") != "unknown":
        yield f"expected the state unknown for a new key, got {before}"
    said, told = session.act(trial, key), session.target.status(key)
    if told.data.get("state") != "completed" or told.data.get("result") != said.data:
        yield f"expected the state completed with the result {dict(said.data)}, got {told}"


def replay(session: Session, trial: Trial) -> Iterator[str]:
    """The same key and request replay the stored answer; the effect is there once."""
    key = fresh()
    first, once = session.act(trial, key), session.probe(trial)
    again = session.target.settled(trial, key=key)
    if not same(first, again):
        yield f"expected the stored answer {first}, got {again}"
    if session.probe(trial) != once:
        yield "the effect is there twice"


def mismatch(session: Session, trial: Trial) -> Iterator[str]:
    """Another request under the key is 422 `key_mismatch` and changes nothing."""
    key = fresh()
    session.act(trial, key)
    before = session.target.status(key)
    other = trial.model_copy(update={"fields": trial.fields | {"conformance": "another"}})
    said = session.target.settled(other, key=key)
    if not is_mismatch(said):
        yield f"expected 422 with the code {MISMATCH}, got {said}"
    if session.target.status(key).document != before.document:
        yield "the record of the key has changed"


def key_before_validation(session: Session, trial: Trial) -> Iterator[str]:
    """The key is looked up before the body is validated."""
    key = fresh()
    session.act(trial, key)
    said = session.target.send(trial, key=key, raw="no json")
    if not is_mismatch(said):
        yield f"expected 422 with the code {MISMATCH} for another body under the key, got {said}"


def key_required(session: Session, trial: Trial) -> Iterator[str]:
    """An effect without a key could happen twice: 400."""
    said = session.target.send(trial)
    if said.status != HTTPStatus.BAD_REQUEST:
        yield f"expected 400 without a key, got {said}"


def expired_key(session: Session, trial: Trial) -> Iterator[str]:
    """410 for a key older than the retention: it may have been used and forgotten."""
    key = fresh()
    said = session.target.send(trial, key=key, issued_at=LONG_AGO)
    if said.status != HTTPStatus.GONE:
        yield f"expected 410 for a key issued in 2000, got {said}"
    if session.target.status(key).data.get("state") == "completed":
        yield "an expired key took effect"


def refusal_kept(session: Session, trial: Trial) -> Iterator[str]:
    """A refusal is committed under its key: replayed, told by the status query, nothing to undo."""
    key, wrong = fresh(), refused_one(trial)
    first = session.target.settled(wrong, key=key)
    again = session.target.settled(wrong, key=key)
    if not same(first, again):
        yield f"expected the stored refusal {first}, got {again}"
    told = session.target.status(key).data
    if (told.get("state"), told.get("code")) != ("failed", first.document.get("code")):
        yield f"expected the state failed with the refusal's code, got {dict(told)}"
    if trial.undo and not (said := session.undo(trial, key, fresh())).done:
        yield f"expected that there is nothing to undo, which is a success, got {said}"


def at_once(session: Session, trial: Trial) -> Iterator[str]:
    """The same key many times at the same moment takes effect once; who comes early is told 425."""
    key = fresh()
    if trial.undo:
        session.made.append((trial, key))
    before = session.probe(trial)
    answers = together([lambda: session.target.send(trial, key=key) for _ in range(AT_ONCE)])
    settled = session.target.settled(trial, key=key)
    for said in answers:
        if said.status != HTTPStatus.TOO_EARLY and not same(said, settled):
            yield f"expected 425 or the one answer {settled}, got {said}"
    after = session.probe(trial)
    if trial.undo and trial.probe is not None:
        session.undo(trial, key, fresh())
        if session.probe(trial) != before or after == before:
            yield f"the effect is not there once: {dict(before)}, then {dict(after)}"


# --- Undoing (rules 12, 22) ---------------------------------------------------------------------------


def undo(session: Session, trial: Trial) -> Iterator[str]:
    """The compensation works from the action's key alone, is replayed, and takes all back."""
    key, back, before = fresh(), fresh(), session.probe(trial)
    session.act(trial, key)
    if trial.probe is not None and session.probe(trial) == before:
        yield "the action has no effect that its probe shows"
    first, again = session.undo(trial, key, back), session.undo(trial, key, back)
    if not first.done:
        yield f"expected success from {trial.undo} with an empty body, got {first}"
    if not same(first, again):
        yield f"expected the stored answer {first} from {trial.undo}, got {again}"
    if session.target.status(back).data.get("state") != "completed":
        yield f"expected the state completed for the key of {trial.undo}"
    if session.probe(trial) != before:
        yield f"the effect is still there: {dict(before)}, then {dict(session.probe(trial))}"
    if session.target.send(Ask(operation=trial.undo), key=fresh()).status != HTTPStatus.BAD_REQUEST:
        yield f"expected 400 from {trial.undo} without X-Compensates"


def undo_twice(session: Session, trial: Trial) -> Iterator[str]:
    """A second compensation, under another key, succeeds and changes nothing."""
    key = fresh()
    session.act(trial, key)
    session.undo(trial, key, fresh())
    before = session.probe(trial)
    said = session.undo(trial, key, fresh())
    if not said.done:
        yield f"expected success from a second {trial.undo}, got {said}"
    if session.probe(trial) != before:
        yield f"a second {trial.undo} had an effect"


def undo_first(session: Session, trial: Trial) -> Iterator[str]:
    """A compensation that comes first succeeds, and the late action is refused, now and later."""
    key, before = fresh(), session.probe(trial)
    said = session.undo(trial, key, fresh())
    if not said.done:
        yield f"expected success from {trial.undo} before its action, got {said}"
    for _ in range(2):
        late = session.act(trial, key)
        if not late.refused or late.document.get("code") == MISMATCH:
            yield f"expected the late action to be refused, got {late}"
    if session.target.status(key).data.get("state") == "completed":
        yield "the status query says that the late action has completed"
    if session.probe(trial) != before:
        yield "the late action took effect"


def undo_of_something_else(session: Session, trial: Trial) -> Iterator[str]:
    """The key of a compensation stands for one action: for another one it is a mismatch."""
    key, other, back = fresh(), fresh(), fresh()
    session.act(trial, key)
    session.undo(trial, key, back)
    said = session.undo(trial, other, back)
    if not is_mismatch(said):
        yield f"expected 422 with the code {MISMATCH} from {trial.undo} for another action, got {said}"


def action_and_undo_at_once(session: Session, trial: Trial) -> Iterator[str]:
    """Whoever of the two comes first, nothing is left."""
    key, back, before = fresh(), fresh(), session.probe(trial)
    together(
        [
            lambda: session.target.send(trial, key=key),
            lambda: session.target.send(Ask(operation=trial.undo), key=back, undoes=key),
        ]
    )
    said = session.undo(trial, key, back)
    if not said.done:
        yield f"expected success from {trial.undo}, got {said}"
    late = session.target.settled(trial, key=key)
    if not (late.done or late.refused):
        yield f"expected the action to be done and undone, or refused, got {late}"
    if session.probe(trial) != before:
        yield f"the effect is still there: {dict(before)}, then {dict(session.probe(trial))}"


def same(first: Said, second: Said) -> bool:
    """Whether an answer is the stored one: its status and its bytes."""
    return (first.status, first.raw) == (second.status, second.raw)


def is_mismatch(said: Said) -> bool:
    """Whether this is the refusal of a key that belongs to another request."""
    known = said.refused and said.document["code"] == MISMATCH
    return known and said.status == HTTPStatus.UNPROCESSABLE_ENTITY


def together(calls: Sequence[Callable[[], Said]]) -> list[Said]:
    """The answers of calls made at the same moment.

    Raises:
        OSError: one of them got none.
    """
    gate, answers, failures = threading.Barrier(len(calls)), list[Said](), list[Exception]()

    def make(call: Callable[[], Said]) -> None:
        gate.wait()
        try:
            answers.append(call())
        except (OSError, HTTPException) as failure:
            failures.append(failure)

    threads = [threading.Thread(target=make, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise ConnectionError(f"a call at the same moment as others got no answer: {failures[0]!r}")
    return answers
