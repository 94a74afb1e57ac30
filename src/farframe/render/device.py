"""Which graphics device draws: adapters are enumerated and chosen in the open, never left to the driver's order.

A CPU adapter (lavapipe) is taken only where no GPU is, or where it is asked for by name.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Literal

import wgpu
from wgpu.backends.wgpu_native import extras

from farframe.protocol.errors import FarframeError, Result

AdapterChoice = Literal["auto", "gpu", "cpu"]
AdapterKind = Literal["cpu", "gpu"]

REQUIRED_FEATURES = ("indirect-first-instance",)
"""An indirect command names the row of its instance: all parts of a batch are then one call."""
WELCOME_FEATURES = (
    "multi-draw-indirect-count",
    "timestamp-query",
    "texture-compression-bc",
    "clip-distances",
    "polygon-mode-line",
    "shader-early-depth-test",
)
"""The first makes multi-draw native; without it wgpu issues the same commands one by one, outside of Python.
The third lets compressed textures stay as they are; without it they are decoded on the way. The fourth cuts triangles
at planes; without it fragments beyond a plane are thrown away one by one, so that cut edges are not antialiased. The
last spares the layers of transparent surfaces that are hidden anyway."""

_RANK = {"DiscreteGPU": 0, "IntegratedGPU": 1, "Unknown": 2, "CPU": 3}
_BACKEND_RANK = {"Vulkan": 0, "Metal": 0, "D3D12": 1}


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """What an adapter says about itself; ``kind`` is the device type and ``backend`` the API in wgpu's words."""

    name: str
    kind: str
    backend: str


def choose_adapter(adapters: list[AdapterInfo], choice: AdapterChoice) -> int:
    """Index of the adapter to use. Raises ``DeviceLost`` with the next step where there is none of that choice."""
    usable = [index for index, adapter in enumerate(adapters) if adapter.backend in _BACKEND_RANK]
    if choice == "gpu":
        usable = [index for index in usable if adapters[index].kind != "CPU"]
    elif choice == "cpu":
        usable = [index for index in usable if adapters[index].kind == "CPU"]
    if not usable:
        found = ", ".join(f"{a.name} ({a.kind}, {a.backend})" for a in adapters) or "none at all"
        package = "the graphics card's Vulkan driver" if choice == "gpu" else "mesa-vulkan-drivers and libvulkan1"
        raise FarframeError(
            Result.DEVICE_LOST,
            f"There is no graphics device for adapter choice {choice!r}; found: {found}.",
            next_step=f"Install {package}, or choose another adapter.",
        )
    return min(usable, key=lambda i: (_RANK.get(adapters[i].kind, 2), _BACKEND_RANK[adapters[i].backend], i))


def request_device(choice: AdapterChoice) -> tuple[Any, AdapterInfo]:
    """A wgpu device with the adapter's own limits, and the adapter. Raises ``DeviceLost`` where that fails."""
    # Asking only the first-class backends spares a second of probing for OpenGL, and its complaints on stderr.
    # Once the process has an instance it cannot change any more, which is no error.
    with contextlib.suppress(RuntimeError):
        extras.set_instance_extras(backends=["Primary"])
    adapters = wgpu.gpu.enumerate_adapters_sync()
    infos = [
        AdapterInfo(str(a.info["device"]), str(a.info["adapter_type"]), str(a.info["backend_type"])) for a in adapters
    ]
    index = choose_adapter(infos, choice)
    adapter, info = adapters[index], infos[index]
    missing = [feature for feature in REQUIRED_FEATURES if feature not in adapter.features]
    if missing:
        raise FarframeError(
            Result.DEVICE_LOST,
            f"The graphics device {info.name} lacks {', '.join(missing)}.",
            next_step="Update its driver, or use adapter choice 'cpu'.",
        )
    features = [*REQUIRED_FEATURES, *(feature for feature in WELCOME_FEATURES if feature in adapter.features)]
    wanted = ("max-buffer-size", "max-texture-dimension-2d", "max-vertex-attributes", "max-storage-buffer-binding-size")
    limits = {name: adapter.limits[name] for name in wanted}
    try:
        device = adapter.request_device_sync(required_features=features, required_limits=limits)
    except RuntimeError as error:
        raise FarframeError(
            Result.DEVICE_LOST,
            f"The graphics device {info.name} could not be opened: {error}.",
            next_step="Check its driver and that the process may open /dev/dri.",
        ) from error
    return device, info
