from __future__ import annotations

import inspect

import farframe.client
from farframe.client import errors


def test_everything_public_is_listed_once_and_exists() -> None:
    names = farframe.client.__all__
    assert len(set(names)) == len(names)
    assert sorted(names, key=str.lower) == sorted(
        (name for name, value in vars(farframe.client).items() if inspect.isclass(value)), key=str.lower
    )


def test_every_error_is_public_documented_and_in_the_tree() -> None:
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and issubclass(kind, Exception):
            assert getattr(farframe.client, name) is kind
            assert name in (errors.__doc__ or "")
            assert kind.__doc__
