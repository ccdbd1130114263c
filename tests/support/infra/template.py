"""CloudFormation templates of the CDK app, synthesized once per context and process."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from tests.support.infra.cdk import SILENT
from tests.support.servers.relay import ROOT

IMAGE: Final = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mail/smtp-relay:1.2"


class Template:
    """One synthesized stack: its resources, and what synthesis had to say."""

    def __init__(
        self,
        found: Mapping[str, Any],
        messages: list[tuple[str, str, str]],
        *,
        is_protected: bool,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.value = found
        self.resources: dict[str, Any] = found["Resources"]
        self.messages = messages
        self.is_protected = is_protected
        self.tags = dict(tags or {})

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Properties of the resources of a type (`SQS::Queue`), by logical id."""
        return {
            name: one.get("Properties", {})
            for name, one in self.resources.items()
            if one["Type"] == f"AWS::{kind}"
        }

    def one(self, kind: str, starts: str = "") -> dict[str, Any]:
        """Properties of the only resource of a type whose logical id starts so."""
        ((_, found),) = [(name, value) for name, value in self.of(kind).items() if name.startswith(starts)]
        return found

    def statements(self, role: str) -> list[dict[str, Any]]:
        """All permissions of the role whose logical id starts so."""
        policies = self.one("IAM::Role", role)["Policies"]
        return [each for policy in policies for each in policy["PolicyDocument"]["Statement"]]

    def texts(self) -> Iterator[str]:
        """Every text in the template."""
        todo: list[Any] = [self.value]
        while todo:
            value = todo.pop()
            if isinstance(value, str):
                yield value
            elif isinstance(value, Mapping):
                todo += [*value.keys(), *value.values()]
            elif isinstance(value, list):
                todo += value


def flat(value: Any) -> str:
    """A value with CloudFormation's functions written out: `arn:${AWS::Partition}:s3:::…`."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and len(value) == 1:
        ((function, argument),) = value.items()
        if function == "Ref":
            return f"${{{argument}}}"
        if function == "Fn::GetAtt":
            return "${" + ".".join(argument) + "}"
        if function == "Fn::Join":
            return str(argument[0]).join(map(flat, argument[1]))
    return json.dumps(value)


def synthesize(context: Mapping[str, Any]) -> Template:
    """The template that the app makes for a context. The function's zip has tests of its own, so here
    it holds next to nothing, which saves minutes."""
    return _synthesize(json.dumps(context, sort_keys=True))


@cache
def _synthesize(text: str) -> Template:
    os.environ.update(SILENT)
    import aws_cdk

    from infra.cdk.app import build
    from infra.cdk.parts import delivery

    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    with tempfile.TemporaryDirectory(prefix="cdk-") as folder:
        archive = Path(folder) / "function.zip"
        with zipfile.ZipFile(archive, "w") as made:
            made.writestr("relay.json", text)
        app = aws_cdk.App(outdir=f"{folder}/out", context={**context, **json.loads(text)})
        with patch.object(delivery, "bundle", return_value=archive):
            build(app)
        (stack,) = app.synth().stacks
        messages = [(str(each.level), each.id, str(each.entry.data)) for each in stack.messages]
        protected = bool(stack.termination_protection)
        return Template(dict(stack.template), messages, is_protected=protected, tags=stack.tags)


def config_file(folder: Path, value: Mapping[str, Any]) -> str:
    """A configuration as a file; its path."""
    path = folder / "relay.json"
    path.write_text(json.dumps(value))
    return str(path)
