"""Small files that are loaded again when they change."""

import asyncio
import pathlib
from collections.abc import Callable, Mapping, Sequence

from indexing.telemetry import logs

MAX_SIZE = 1 << 20
"""Bytes of the longest file that is read: enough for thousands of callers, or any certificate chain."""


class InvalidFile(Exception):
    """The content of a file cannot be used; the message says what is wrong and where, and repeats nothing of it."""


class WatchedFiles:
    """
    Files that are loaded together, and loaded again when any of them has changed.

    Changes are found by content: Kubernetes swaps a symbolic link above the files, which no file's modification time
    shows. Content that cannot be used is logged and changes nothing.

    Args:
        paths: Path of each file by the setting that names it.

        load: Takes the contents in the order of *paths*; raises InvalidFile and then changes nothing.

    Attributes:
        refused: Whether the last changed content could not be used.
    """

    def __init__(self, paths: Mapping[str, pathlib.Path], load: Callable[[Sequence[bytes]], None]) -> None:
        self._paths = paths
        self._load_contents = load
        self._last: list[bytes] | str = ""
        self.refused = False
        self._log = logs.get(__name__)

    def load(self) -> None:
        """Load the files for the first time. Raises InvalidFile."""
        self._last = self._read_contents()
        self._use(self._last)

    async def reload(self) -> None:
        """Load the files again if they have changed; content that cannot be used is logged once."""
        contents = await asyncio.to_thread(self._read_contents)
        if contents == self._last:
            return
        self._last = contents
        try:
            self._use(contents)
        except InvalidFile as problem:
            self.refused = True
            self._log.error(
                "file_refused", settings=[*self._paths], problem=str(problem), in_force="the last valid content"
            )
        else:
            self.refused = False
            self._log.info("file_reloaded", settings=[*self._paths])

    def _use(self, contents: list[bytes] | str) -> None:
        if isinstance(contents, str):
            raise InvalidFile(contents)
        self._load_contents(contents)

    def _read_contents(self) -> list[bytes] | str:
        """Return the contents, or the reason why a file cannot be read."""
        contents = []
        for setting, path in self._paths.items():
            try:
                with path.open("rb") as file:
                    content = file.read(MAX_SIZE + 1)
            except OSError as error:
                return f"{setting}: {path} cannot be read ({error.strerror})"
            if len(content) > MAX_SIZE:
                return f"{setting}: {path} is longer than {MAX_SIZE} bytes"
            contents.append(content)
        return contents
