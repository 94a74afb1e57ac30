"""Another version of aiortc or aioice is noticed at import, by name."""

from __future__ import annotations

import aiortc
import pytest
from aioice.ice import Connection, StunProtocol

from farframe.stream import aiortc_hooks


def test_the_installed_versions_have_every_hook() -> None:
    aiortc_hooks._check_hooks()


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiortc, "__version__", "2.0.0")
    with pytest.raises(ImportError, match=r"aiortc is 2\.0\.0"):
        aiortc_hooks._check_hooks()


def test_a_missing_method_and_a_missing_attribute_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(StunProtocol, "send_stun")

    def bare(self: object) -> None:
        """An initializer that sets nothing."""

    monkeypatch.setattr(Connection, "__init__", bare)
    with pytest.raises(ImportError, match=r"send_stun is missing.*_nominated is not set"):
        aiortc_hooks._check_hooks()
