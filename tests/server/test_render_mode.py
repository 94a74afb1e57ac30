"""Both of Azure Remote Rendering's render modes are taken at the handshake, and no others."""

from __future__ import annotations

from typing import Any

import pytest
from litestar.testing import TestClient

from farframe.server.web import handshake_app


class Accepting:
    """Takes every offer."""

    def authorize(self, authorization: str, permission: Any = None) -> None:
        """Anybody may."""

    async def connect(self, offer: str, wishes: Any) -> tuple[str, str]:
        return "one", "v=0\r\n"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 201),
        ("?renderMode=DepthBasedComposition", 201),
        ("?renderMode=tileBasedComposition", 201),
        ("?renderMode=Default&watch", 201),
        ("?renderMode=RayTraced", 400),
        ("?renderMode=", 400),
    ],
)
def test_render_modes_are_taken_at_the_handshake(query: str, status: int) -> None:
    with TestClient(handshake_app(Accepting())) as client:  # type: ignore[arg-type]
        answer = client.post(f"/whep{query}", content="v=0", headers={"Content-Type": "application/sdp"})
    assert answer.status_code == status
    assert status == 201 or answer.json()["error"]["code"] == "HandshakeFailed"
