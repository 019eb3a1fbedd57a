"""A notifier: messages are added to a file, board:///path/of/the/file."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit


class Board:
    """Made from the address as [notify] urls has it."""

    def __init__(self, address: str) -> None:
        self.file = Path(urlsplit(address).path)

    def send(self, title: str, body: str) -> None:
        """Add a message. What is raised is why it was not taken; it is then tried again."""
        with self.file.open("a", encoding="utf-8") as board:
            board.write(f"{title}\n{body}\n\n")
