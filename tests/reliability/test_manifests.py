"""Anybody can write a manifest that matches its own hash; it is refused where it is not as we write them."""

from __future__ import annotations

import copy
import json

import pytest

from vaco_curate.store.manifest import read_manifest, write_manifest
from vaco_curate.store.shapes import SHAPES, misshapen


def places(shape, path=()):
    """Where a shape says that something must be."""
    if isinstance(shape, dict):
        for name, of in shape.items():
            yield (*path, name)
            yield from places(of, (*path, name))
    elif isinstance(shape, list):
        yield from places(shape[0], (*path, 0))


def spoiled(facts, path, value=None):
    """A copy without what is at a place, or with another value there; None where there is no such place."""
    made = copy.deepcopy(facts)
    inner = made
    for step in path[:-1]:
        try:
            inner = inner[step]
        except (IndexError, KeyError, TypeError):
            return None
    if path[-1] not in inner:
        return None
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return made


@pytest.mark.parametrize("kind", SHAPES)
def test_what_is_missing_or_of_another_type_is_refused_with_its_place(vaco, scored, kind):
    vaco("filter", "pendulum.vaco", "--top", "50%", "--out", "curated")
    vaco("convert", "pendulum.hdf5", "converted")
    folder = scored / {"run": "pendulum.vaco"}.get(kind, kind)
    facts = read_manifest(folder)
    assert misshapen(facts) is None
    tried = 0
    for path in places(SHAPES[kind]):
        for value in (None, "x", [3], {"a": None}):
            made = spoiled(facts, path, value)
            if made is None or misshapen(made) is None:
                assert made is None or value is not None, f"{path} can be missing"
                continue
            write_manifest(folder, made)
            command = ("verify", folder) if tried % 5 else ("filter", folder, "--top", "10%", "--dry-run")
            outcome = vaco(*command)
            assert outcome.code == 1, path
            assert "not as this version of vaco-curate writes it" in outcome.stderr
            assert str(path[0]) in outcome.stderr
            tried += 1
    assert tried > 30


@pytest.mark.parametrize("content", [[], 3, {}, {"made_by": "vaco-curate", "kind": 3}])
def test_other_json_is_refused(vaco, scored, content):
    if isinstance(content, dict):
        write_manifest(scored / "pendulum.vaco", content)
    else:
        (scored / "pendulum.vaco" / "_manifest.json").write_text(json.dumps(content))
    outcome = vaco("verify", "pendulum.vaco")
    assert outcome.code == 1
