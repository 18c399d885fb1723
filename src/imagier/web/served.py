"""What one served app holds."""

from __future__ import annotations

from dataclasses import dataclass

from imagier.workflows.browse import Browser


@dataclass(frozen=True)
class Served:
    """A collection on show."""

    browser: Browser
    token: str | None

    @property
    def name(self) -> str:
        """Of the collection's folder."""
        return self.browser.collection.folder.name
