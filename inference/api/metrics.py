"""`GET /metrics`: what Prometheus reads, and `weightproof top`."""

from __future__ import annotations

from ipaddress import ip_address

from fastapi import APIRouter, Request, Response

from inference.api.problems import RouteError, problem
from inference.errors import NodeError
from inference.node import Node


class MetricsPrivateError(NodeError):
    """Metrics are for the node's own machine."""

    status = 403
    code = "metrics_private"


def router(node: Node) -> APIRouter:
    """Return the route; how busy a node is and what it earns is told to its own machine only."""
    routes = APIRouter()
    settings = node.config.observer

    @routes.get("/metrics", response_model=None)
    async def metrics(request: Request) -> Response:
        if node.observer.metrics is None:
            return problem(RouteError(404))
        if not settings.metrics_public and not _local(request):
            return problem(
                MetricsPrivateError(
                    "metrics are told to the node's own machine only",
                    hint="its operator can set node.metrics_public",
                )
            )
        body, kind = node.observer.metrics.render(request.headers.get("accept", ""))
        return Response(body, 200, {"Content-Type": kind, "Cache-Control": "no-store"})

    return routes


def _local(request: Request) -> bool:
    """Whether the caller is on this machine; one that came through a proxy is not."""
    if any(name in request.headers for name in ("forwarded", "x-forwarded-for", "via")):
        return False
    try:
        return request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False
