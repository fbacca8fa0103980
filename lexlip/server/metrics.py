"""Prometheus metrics of one server."""

from __future__ import annotations

import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)


class Metrics:
    """Counters in a separate registry, so that several servers fit into one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lexlip_requests", "Requests", ("method", "path", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "lexlip_request_seconds", "Time to answer", ("path",), registry=self.registry,
            buckets=_SECONDS,
        )  # fmt: skip
        self.stages = Histogram(
            "lexlip_search_stage_seconds", "Time of each stage of a search", ("stage",),
            registry=self.registry, buckets=_SECONDS,
        )  # fmt: skip
        self.postings = Counter(
            "lexlip_postings", "Postings that searches touched", registry=self.registry
        )
        self.documents = Gauge("lexlip_documents", "Documents in the index", registry=self.registry)
        self.unavailable = Counter(
            "lexlip_engine_unavailable", "Requests that the engine did not answer",
            registry=self.registry,
        )  # fmt: skip
        self.up = Gauge("lexlip_engine_up", "Whether the engine answers", registry=self.registry)
        self.up.set(1)

    def searched(self, answer: dict[str, Any]) -> None:
        """Count the cost of a search."""
        cost = answer["cost"]
        self.postings.inc(cost["postings"])
        for stage in ("encode", "search", "rerank", "explain"):
            if took := cost[f"{stage}_ms"]:
                self.stages.labels(stage).observe(took / 1000)
        self.documents.set(answer["total"])

    def text(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return generate_latest(self.registry)


class Measured:
    """Middleware that counts and times requests, by route and not by address."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, start = 500, time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            path = getattr(scope.get("route"), "path", "") or "other"
            method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE") else "other"
            self.metrics.requests.labels(method, path, str(status)).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - start)
