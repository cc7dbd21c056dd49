"""Encodes the messages of WatchIndex. Rows are encoded once for all streams; messages are joined from their bytes."""

import base64
import binascii

from indexer_service.api import convert, page_tokens
from indexer_service.v1 import indexer_pb2 as pb
from indexing.domain import shown_channels
from indexing.usecases import sent_index, watch_index

FORM = 1
"""Number of the form of resume tokens. A token of another form requests a snapshot."""


class IndexEncoder:
    """Turns the messages of a user's stream into serialized WatchIndexResponses."""

    def __init__(self, tokens: page_tokens.PageTokens) -> None:
        self._tokens = tokens

    def encode(self, user_id: int, message: watch_index.Message, position: watch_index.Position | None) -> bytes:
        """Return one message with its resume token; None for no token."""
        response = pb.WatchIndexResponse(resume_token="" if position is None else self._token(user_id, position))
        change = b""
        if isinstance(message, sent_index.GuildChange):
            change = _change(message)
        elif isinstance(message, watch_index.Reset):
            response.reset.CopyFrom(pb.IndexReset(reason=f"SNAPSHOT_REASON_{message.reason or 'UNSPECIFIED'}"))
        elif isinstance(message, watch_index.Bookmark):
            response.bookmark.read_time.CopyFrom(convert.timestamp(message.at))
        else:
            response.going_away.CopyFrom(pb.GoingAway(reason=f"GOING_AWAY_REASON_{message.reason}"))
        return change + response.SerializeToString()

    def position(self, user_id: int, token: str) -> dict[int, bytes] | None:
        """
        Return the position that a token names; None when it is of another form.

        Raises:
            errors.InvalidArgument: It is no token of this user.
        """
        signed = self._tokens.verify("resume_token", _purpose(user_id), token)
        try:
            form, text = signed
            packed = base64.b64decode(text, validate=True)
        except (TypeError, ValueError, binascii.Error):
            return None
        return shown_channels.unpack(packed) if form == FORM else None

    def _token(self, user_id: int, position: watch_index.Position) -> str:
        text = base64.b64encode(shown_channels.pack(position.items())).decode()
        return self._tokens.sign(_purpose(user_id), [FORM, text])


def _purpose(user_id: int) -> str:
    return f"index:{user_id}"


def _change(change: sent_index.GuildChange) -> bytes:
    """Return a change: its channels are already encoded as elements of field 1."""
    rest = pb.GuildChange(
        guild_id=str(change.guild_id),
        guild=None if change.guild is None else pb.Guild.FromString(change.guild),
        replace=change.replace,
        removed_channel_ids=map(str, change.removed_channels),
        removed=change.removed,
    )
    return convert.as_first_field(b"".join(change.channels) + rest.SerializeToString())
