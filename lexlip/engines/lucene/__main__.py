"""The command ``python -m lexlip.engines.lucene``: which Java is used."""

from __future__ import annotations

from lexlip.engines.lucene.java import main

raise SystemExit(main())
