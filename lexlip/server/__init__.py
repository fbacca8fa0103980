"""The HTTP server: one index for people and programs (``lexlip serve``)."""

from __future__ import annotations

from lexlip.server.app import create_app
from lexlip.server.settings import Settings

__all__ = ["Settings", "create_app"]
