"""What goes back to the caller: answers, Discord's errors and the pages of the edge in front of it."""

import dataclasses
from typing import Any, Literal

import msgspec

from devstack.simulator import limits

ConnectionFault = Literal["reset", "cut", "hang"]

JSON = "application/json"
HTML = "text/html; charset=UTF-8"


@dataclasses.dataclass(slots=True)
class Reply:
    """One answer; `from_discord` says that it comes from Discord itself and not from the edge in front of it."""

    status: int
    body: bytes
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    content_type: str = JSON
    from_discord: bool = True
    scope: str | None = None
    connection_fault: ConnectionFault | None = None
    seconds: float = 0.0

    @property
    def client_status(self) -> int:
        """The status the client gets to see, 0 for none."""
        return 0 if self.connection_fault in {"reset", "hang"} else self.status


class Refused(Exception):
    """A stage of the way ends the call with this reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def json_reply(document: Any, status: int = 200) -> Reply:  # noqa: ANN401 - any JSON document
    """Answer with a JSON document."""
    return Reply(status, msgspec.json.encode(document))


def error_reply(status: int, code: int, message: str) -> Reply:
    """Fail in the shape of developers/reference.mdx, Error Messages (read 2026-08-06)."""
    return json_reply({"message": message, "code": code}, status)


def invalid_form_body(field: str, code: str, message: str) -> Reply:
    """Refuse one field of a request: error 50035 with its tree of details."""
    details = {field: {"_errors": [{"code": code, "message": message}]}}
    return json_reply({"message": "Invalid Form Body", "code": 50035, "errors": details}, 400)


def oauth_error(status: int, name: str, description: str) -> Reply:
    """Fail in OAuth2's shape, which differs from the API's (RFC 6749, section 5.2)."""
    return json_reply({"error": name, "error_description": description}, status)


def rate_limited(scope: str, retry_after: float, *, code: int = 0) -> Reply:
    """
    Refuse for now: 429 with its wait, in the body to the millisecond and in Retry-After in whole seconds, rounded up.

    Source: developers/topics/rate-limits.mdx, Exceeding A Rate Limit (read 2026-08-06).
    """
    wait = max(-(-retry_after * 1000 // 1) / 1000, 0.001)
    is_global = scope == "global"
    document: dict[str, object] = {
        "message": "You are being rate limited.",
        "retry_after": wait,
        "global": is_global,
    }
    if code:
        document["code"] = code
    reply = json_reply(document, 429)
    reply.scope = scope
    reply.headers = {"Retry-After": str(int(-(-wait // 1))), "X-RateLimit-Scope": scope}
    if is_global:
        reply.headers["X-RateLimit-Global"] = "true"
    return reply


def rate_headers(view: limits.BudgetView, bucket: str, wall: float) -> dict[str, str]:
    """Describe a route's bucket; *wall* is the moment of the arrival, in seconds since 1970."""
    return {
        "X-RateLimit-Limit": str(view.limit),
        "X-RateLimit-Remaining": str(view.remaining),
        "X-RateLimit-Reset": f"{wall + view.reset_after:.3f}",
        "X-RateLimit-Reset-After": f"{view.reset_after:.3f}",
        "X-RateLimit-Bucket": bucket,
    }


def edge_page(status: int) -> Reply:
    """Show the page of the edge in front of Discord: HTML, and no Via header (discord-api-docs issue 5810, staff)."""
    title = "Error 1015: You are being rate limited" if status == 429 else f"Error {status}"
    page = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Reply(status, page.encode(), content_type=HTML, from_discord=False)


def user_agent_rejected() -> Reply:
    """Refuse a client that does not say who it is (developers/reference.mdx, User Agent; code 40333)."""
    reply = error_reply(403, 40333, "internal network error")
    reply.from_discord = False
    return reply
