"""The scene of a connection: ids are never reused, changes are all or nothing."""

from __future__ import annotations

import pytest

from farframe.scene import scene as module
from farframe.scene.scene import Scene, SceneSettings


def test_ids_are_never_used_twice() -> None:
    scene = Scene()
    first = scene.add_model("a", "builtin://Engine")
    scene.remove_model(first.model_id)
    assert scene.add_model("b", "builtin://Engine").model_id != first.model_id


def test_every_visible_change_is_a_new_version() -> None:
    scene = Scene()
    versions = [scene.version]
    model = scene.add_model("a", "x")
    versions.append(scene.version)
    scene.configure(exposure=2.0)
    versions.append(scene.version)
    scene.remove_model(model.model_id)
    versions.append(scene.version)
    assert len(set(versions)) == len(versions)
    scene.configure(exposure=2.0)
    assert scene.version == versions[-1], "the same again is no change"


@pytest.mark.parametrize(
    "changes",
    [
        {"light_direction": (0.0, 0.0, 0.0)},
        {"exposure": float("nan")},
        {"light_intensity": -1.0},
        {"background": (0.0, float("inf"), 0.0)},
        {"environment_intensity": 1e9},
    ],
)
def test_impossible_settings_change_nothing(changes: dict[str, object]) -> None:
    scene = Scene()
    with pytest.raises(ValueError, match=next(iter(changes))):
        scene.configure(**changes)
    assert scene.settings == SceneSettings()
    assert scene.version == 0


def test_clear_puts_everything_back() -> None:
    scene = Scene()
    scene.add_model("a", "x")
    scene.configure(exposure=3.0)
    assert [model.name for model in scene.clear()] == ["a"]
    assert scene.settings == SceneSettings()
    assert not scene.models


def test_an_unknown_model_cannot_be_removed() -> None:
    with pytest.raises(KeyError):
        Scene().remove_model(1)


def test_a_scene_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MODELS", 2)
    scene = Scene()
    scene.add_model("a", "x")
    scene.add_model("b", "x")
    with pytest.raises(OverflowError):
        scene.add_model("c", "x")
