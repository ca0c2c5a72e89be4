"""Two sales through the public API, each shown step by step."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import urllib3
from rich.markup import escape
from rich.table import Table

from stack.config import Config
from stack.errors import Trouble
from stack.progress import console

PATIENCE = 30
TOKENS = {
    "DEMO_TOKEN_VIEWER": "demo-viewer-token",
    "DEMO_TOKEN_CLIENT": "demo-client-token",
    "DEMO_TOKEN_OPERATOR": "demo-operator-token",
}
CALLER = "DEMO_TOKEN_OPERATOR"
COLOURS = {"completed": "green", "compensated": "yellow", "failed": "red", "skipped": "dim"}


@dataclass(frozen=True)
class Sale:
    """One sale to ask for, and the status in which it should end."""

    title: str
    data: Mapping[str, object]
    ends: str


def sale(customer: int, product: int, price: str) -> dict[str, object]:
    """The input of a sale of one piece in store 1 by employee 1."""
    return {
        "store_id": 1,
        "employee_id": 1,
        "customer_id": customer,
        "items": [{"product_id": product, "quantity": 1, "price": price}],
        "payment_method": "credit_card",
    }


SALES = (
    Sale("Customer 123 buys product 457 for 5.00", sale(123, 457, "5.00"), "completed"),
    Sale("Customer 124, who has 5.00, buys product 456 for 29.99", sale(124, 456, "29.99"), "compensated"),
)


def run(config: Config, token: str) -> bool:
    """Runs the sales against the stack that is up and prints each; whether both ended as they should.

    Raises Trouble if the API cannot be reached or refuses the request.
    """
    console.print()
    good = True
    for number, wanted in enumerate(SALES, 1):
        saga = start(config, token, wanted.data)
        console.print(f"[bold]{number}. {escape(wanted.title)}[/]")
        console.print(steps(saga))
        console.print(f"{ending(saga)}\n", soft_wrap=True)
        if saga["status"] != wanted.ends:
            good = False
            console.print(
                f"[red]This sale should have ended {wanted.ends}.[/] {hint(saga)}\n", soft_wrap=True
            )
    return good


def start(config: Config, token: str, data: Mapping[str, object]) -> dict[str, Any]:
    """Starts a sale and waits for its end; the saga as the API answers it. Raises Trouble."""
    url = f"{config.api_url}/api/v1/sagas"
    headers = {
        "Authorization": f"Token {token}",
        "Content-Type": "application/json",
        "Idempotency-Key": str(uuid.uuid4()),
        "Prefer": f"wait={PATIENCE}",
    }
    body = json.dumps({"type": "sales_saga", "data": data})
    try:
        answer = urllib3.request("POST", url, body=body, headers=headers, timeout=PATIENCE + 5, retries=False)
    except urllib3.exceptions.HTTPError as error:
        raise Trouble(f"No API at {config.api_url}. Start the stack with `make up` first.") from error
    if answer.status not in (200, 201, 202):
        raise Trouble(f"The API answered {answer.status}: {answer.data.decode(errors='replace')[:300]}")
    saga: dict[str, Any] = answer.json()
    return saga


def steps(saga: Mapping[str, Any]) -> Table:
    """The steps of a saga, one a row."""
    table = Table(header_style="bold", pad_edge=False, box=None)
    for name in ("step", "outcome", "attempts", "ms", "undone by"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("attempts", "ms") else "left")
    for step in saga["steps"]:
        table.add_row(*row(step))
    return table


def row(step: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    """One step: its name, outcome, attempts, milliseconds, and what undid it."""
    attempts = step["attempts"]
    return (
        step["name"],
        outcome(step),
        str(attempts) if attempts else "-",
        milliseconds(step["started_at"], step["finished_at"]),
        undone(step["compensation"]),
    )


def outcome(step: Mapping[str, Any]) -> str:
    """How the action of a step ended: done, refused, or not begun."""
    if step["error"]:
        return "[red]refused[/]" if step["status"] == "failed" else f"[red]{step['status']}[/]"
    if not step["attempts"]:
        return "[dim]not begun[/]"
    if step["status"] in ("completed", "compensating", "compensated", "compensation_failed"):
        return "[green]done[/]"
    return str(step["status"])


def undone(compensation: Mapping[str, Any] | None) -> str:
    """What undid a step and in how many milliseconds; empty for one that was not undone."""
    if not compensation or not compensation["attempts"]:
        return ""
    took = milliseconds(compensation["started_at"], compensation["finished_at"])
    ended = compensation["status"]
    mark = f"{took} ms" if ended in ("completed", "compensated") else ended
    return f"[yellow]{compensation['name']}[/], {mark}"


def ending(saga: Mapping[str, Any]) -> str:
    """The last line: how the saga ended, in how long, and why or with what."""
    status = saga["status"]
    took = milliseconds(saga["started_at"] or saga["created_at"], saga["finished_at"])
    text = f"[bold {COLOURS.get(status, 'red')}]{status}[/] in {took} ms"
    if saga["error"]:
        text += f", because {saga['error']['step']} said: {escape(str(saga['error']['reason']))}"
    elif saga["result"]:
        text += ", " + ", ".join(f"{key} {escape(str(value))}" for key, value in saga["result"].items())
    return f"{text}\n[dim]saga {saga['id']}[/]"


def milliseconds(began: str | None, ended: str | None) -> str:
    """The time between two moments of the API (ISO 8601); `-` while one of them is missing."""
    if not began or not ended:
        return "-"
    took = datetime.fromisoformat(ended) - datetime.fromisoformat(began)
    return f"{took.total_seconds() * 1000:.0f}"


def hint(saga: Mapping[str, Any]) -> str:
    """What a person may do about a sale that did not end as it should."""
    if saga["status"] in ("compensated", "failed"):
        return "If stock or funds ran out: `make clean` restores the demo data."
    return f"Look at it in the admin, or at /api/v1/sagas/{saga['id']}."
