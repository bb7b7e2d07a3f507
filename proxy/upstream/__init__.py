"""Choosing, pooling and sending: what taximeter does with the servers it forwards to."""

from proxy.upstream.client import Answer, Sending, Upstream

__all__ = ["Answer", "Sending", "Upstream"]
