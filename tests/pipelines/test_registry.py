from __future__ import annotations

import pytest

from pipelines.errors import UserError
from pipelines.registry import BUNDLES, get_bundle


@pytest.mark.parametrize("name", BUNDLES)
def test_every_function_and_config_of_a_bundle_is_there(name):
    bundle = get_bundle(name)
    assert all(callable(bundle.function(kind)) for kind in ("fetch", "phantom", "check"))
    assert all(bundle.config(kind).is_file() for kind in ("train", "evaluate", "inference"))
    assert bundle.name == name


def test_unknown_bundle_is_answered_with_the_nearest_and_all():
    with pytest.raises(UserError, match=r"no bundle 'artium'; did you mean 'atrium'\?\nKnown: atrium"):
        get_bundle("artium")


def test_config_outside_the_projects_folder_says_where_to_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no bundles/atrium/train.yaml in .* in the project's folder"):
        get_bundle("atrium").config("train")
