"""Registries: what is registered is found, and what is not is said with the nearest right name."""

import sys
from pathlib import Path

import msgspec
import pytest

from cluster.registry import CHURN_MODELS, PluginError, Registry, UnknownKindError, import_plugins, suggestion
from protocols.errors import LocalError


class Options(msgspec.Struct):
    rate: int = 1


def test_registered_kind_is_found_with_its_options() -> None:
    registry: Registry[type] = Registry("thing")
    registry.register("whole", options=Options)(int)
    assert registry.find("whole") == (int, Options)
    assert registry.names() == ("whole",)


def test_same_name_twice_is_the_callers_fault_and_changes_nothing() -> None:
    registry: Registry[type] = Registry("thing")
    registry.register("whole")(int)
    with pytest.raises(LocalError, match="thing 'whole' is registered twice"):
        registry.register("whole")(float)
    assert registry.find("whole").make is int


def test_unknown_kind_names_the_nearest_one() -> None:
    with pytest.raises(UnknownKindError, match=r"no churn model is called 'weibul'; did you mean 'weibull'\?"):
        CHURN_MODELS.find("weibul")


def test_home_module_is_imported_at_the_first_lookup() -> None:
    registry: Registry[type] = Registry("thing", "wave")
    sys.modules.pop("wave", None)
    with pytest.raises(UnknownKindError):
        registry.find("anything")
    assert "wave" in sys.modules


def test_far_off_word_lists_what_there_is() -> None:
    assert suggestion("xyz", ["b", "a"]) == "; there are: a, b"
    assert suggestion("xyz", []) == ""


def test_missing_plugin_is_named() -> None:
    with pytest.raises(PluginError, match="plugin 'no_such_study' cannot be imported"):
        import_plugins(["no_such_study"])


def test_plugin_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "failing_study.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"'failing_study' fails while it is imported: ZeroDivisionError"):
        import_plugins(["failing_study"])


def test_plugin_registers_what_a_scenario_then_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.scenario import Scenario

    (tmp_path / "steady_study.py").write_text(
        "from cluster.registry import CHURN_MODELS\nCHURN_MODELS.register('steady')(lambda scenario: None)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    table = {"name": "study", "peers": 9, "duration_s": 99, "churn": {"model": "steady"}}
    try:
        assert Scenario.from_table(table | {"plugins": ["steady_study"]}).churn.model == "steady"
    finally:
        CHURN_MODELS._kinds.pop("steady", None)
        sys.modules.pop("steady_study", None)
