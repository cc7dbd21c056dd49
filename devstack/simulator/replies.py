"""Replies to the client: JSON, Discord's errors, and the pages of the edge in front of Discord."""

import dataclasses
from typing import Any, Literal

import msgspec

from devstack.simulator import limits

ConnectionFault = Literal["reset", "cut", "hang"]

JSON = "application/json"
HTML = "text/html; charset=UTF-8"


@dataclasses.dataclass(slots=True)
class Reply:
    """One reply; `from_discord` is False for replies of the edge in front of Discord."""

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
        """The status that the client sees; 0 for none."""
        return 0 if self.connection_fault in {"reset", "hang"} else self.status


class Refused(Exception):
    """Ends a call with this reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def json_reply(document: Any, status: int = 200) -> Reply:  # noqa: ANN401 - any JSON document
    """Return a reply with a JSON document."""
    return Reply(status, msgspec.json.encode(document))


def error_reply(status: int, code: int, message: str) -> Reply:
    """Return an error in the format of developers/reference.mdx, Error Messages (read 2026-08-06)."""
    return json_reply({"message": message, "code": code}, status)


def invalid_form_body(field: str, code: str, message: str) -> Reply:
    """Return error 50035 for one invalid field."""
    details = {field: {"_errors": [{"code": code, "message": message}]}}
    return json_reply({"message": "Invalid Form Body", "code": 50035, "errors": details}, 400)


def oauth_error(status: int, name: str, description: str) -> Reply:
    """Return an error in OAuth2's format, which differs from the API's (RFC 6749, section 5.2)."""
    return json_reply({"error": name, "error_description": description}, status)


def rate_limited(scope: str, retry_after: float, *, code: int = 0) -> Reply:
    """
    Return a 429: the wait is in milliseconds in the body, and in whole seconds, rounded up, in Retry-After.

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
    """Return the headers of a route's bucket; *wall* is the time of arrival, in seconds since 1970."""
    return {
        "X-RateLimit-Limit": str(view.limit),
        "X-RateLimit-Remaining": str(view.remaining),
        "X-RateLimit-Reset": f"{wall + view.reset_after:.3f}",
        "X-RateLimit-Reset-After": f"{view.reset_after:.3f}",
        "X-RateLimit-Bucket": bucket,
    }


def edge_page(status: int) -> Reply:
    """Return a page of the edge in front of Discord: HTML, without Via (discord-api-docs issue 5810, staff)."""
    title = "Error 1015: You are being rate limited" if status == 429 else f"Error {status}"
    page = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Reply(status, page.encode(), content_type=HTML, from_discord=False)


def user_agent_rejected() -> Reply:
    """Return the error for an invalid user agent (developers/reference.mdx, User Agent; code 40333)."""
    reply = error_reply(403, 40333, "internal network error")
    reply.from_discord = False
    return reply
