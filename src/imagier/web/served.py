"""What one served app holds."""

from __future__ import annotations

from dataclasses import dataclass

from imagier.workflows.browse import Browser
from imagier.workflows.jobs import Jobs


@dataclass(frozen=True)
class Served:
    """A collection on show."""

    browser: Browser
    jobs: Jobs
    token: str | None
    preset: str | None
    """What the page for one's own images begins with."""
    models: tuple[str, ...]
    """The same."""

    @property
    def name(self) -> str:
        """Of the collection's folder."""
        return self.browser.collection.folder.name
