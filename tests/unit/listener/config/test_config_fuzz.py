"""Any configuration loads or is refused with a message; nothing else ever happens."""

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.errors import ConfigError
from functions.processors.registry import KINDS as OUTPUTS
from functions.processors.registry import OUTPUTS as OUTPUT_REGISTRY
from listener.checks import report as check
from listener.checks.finding import Setting
from listener.config.errors import keys_of
from listener.config.load import load
from listener.config.relay import RelayConfig
from listener.config.smtp import SmtpOptions
from listener.filters.registry import FILTERS
from listener.filters.registry import KINDS as FILTER_KINDS

WORDS = st.sampled_from(
    [
        "",
        "a",
        "0.0.0.0",
        "10.0.0.0/8",
        "file://x",
        "s3://b/p",
        "env:X",
        "regexp:.*",
        "${id}",
        "AND",
        "plain:x",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers(-1, 70_000) | WORDS | st.text(max_size=5)


def keys(*models: Any) -> st.SearchStrategy[str]:
    return st.sampled_from(sorted({key for model in models for key in keys_of(model)} | {"logger", "typo"}))


VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(keys(SmtpOptions, RelayConfig), inner, max_size=3)
    ),
    max_leaves=6,
)


def kinds(registry: Any, names: Any) -> st.SearchStrategy[Any]:
    models = [registry.options(name) for name in names]
    return st.builds(
        lambda kind, rest: {**rest, "type": kind},
        st.sampled_from(sorted(names)),
        st.dictionaries(keys(*models), VALUES, max_size=3),
    )


FLOWS = st.fixed_dictionaries(
    {},
    optional={
        "filters": st.lists(kinds(FILTERS, FILTER_KINDS) | VALUES, max_size=2) | VALUES,
        "outputs": st.lists(kinds(OUTPUT_REGISTRY, OUTPUTS) | VALUES, max_size=2) | VALUES,
        "filtersOperator": WORDS,
        "listeners": VALUES,
    },
)
CONFIGS = st.builds(
    lambda rest, flows: {**rest, "flows": flows},
    st.dictionaries(keys(RelayConfig), VALUES, max_size=4),
    st.dictionaries(st.text(max_size=4), FLOWS | VALUES, max_size=2) | VALUES,
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=150)
@given(CONFIGS)
def test_a_configuration_loads_or_is_told_off(value: dict[str, Any]):
    environ = {"SMTP_RELAY_CONFIG_JSON": json.dumps(value), "SMTP_RELAY_TRUSTED_PROXIES": "10.0.0.1"}
    try:
        config = load(None, environ)
    except ConfigError as mistake:
        lines = str(mistake).splitlines()
        told_off = all(line.startswith("SMTP_RELAY_") for line in lines)
        assert told_off, lines
        return
    assert len(config.digest) == 64
    report = check.CheckReport.of(config, Setting.of(Path(), environ), from_loopingz=True)
    assert report.status(strict=False) in {0, 2}
    assert list(report.lines())
    assert json.loads(report.as_json())["good"] is not report.errors
