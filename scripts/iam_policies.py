"""Print the policy that one process needs for the outputs of a configuration, and keep docs/iam.md current.

python scripts/iam_policies.py FILE     the policy (AWS) or the commands that grant (Google Cloud)
python scripts/iam_policies.py          write those of the examples into docs/iam.md
python scripts/iam_policies.py --check  exit 1 when the committed page differs
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "iam.md"
EXAMPLES: Final = ("aws-smtp-relay", "mail2s3", "mail2sqs", "mail2gcp", "mail2gcppubsub")

_MADE: Final = re.compile(r"(?<=<!-- made: begin -->\n).*?(?=<!-- made: end -->)", re.DOTALL)


def aws(path: Path) -> list[str]:
    """The IAM policy of one process, a line for each statement; empty without anything of AWS's."""
    from infra.access.aws.statements import Place, Spool, listener_statements, output_statements
    from listener.config.load import load

    config, place = load(path, {}), Place("aws", "REGION", "ACCOUNT")
    # The first statement of a listener is about a bucket as spool.
    found = output_statements(config, place) + listener_statements(config, Spool(*[""] * 5), place)[1:]
    by_name: dict[str, Any] = {}
    for each in found:
        known = by_name.setdefault(each["Sid"], each)
        known["Resource"] = sorted({*known["Resource"], *each["Resource"]})
    lines = ",\n".join(f"    {json.dumps(each)}" for each in by_name.values())
    return ['{\n  "Version": "2012-10-17",\n  "Statement": [\n' + lines + "\n  ]\n}"] if found else []


def gcp(path: Path) -> list[str]:
    """The commands that grant what the outputs need; empty without outputs to Google Cloud."""
    from functions.errors import ConfigError
    from infra.access.gcp import access

    try:
        found = access(path)
    except ConfigError:
        return []
    bucket = (
        "gcloud storage buckets add-iam-policy-binding gs://{bucket} --member={member} --role=roles/{role}"
    )
    commands = [
        bucket.format(bucket=each["bucket"], member="$MEMBER", role=role)
        for each in found["buckets"]
        for role in ("storage.objectCreator", "storage.objectViewer")
    ]
    for each in found["topics"]:
        project = f" --project={each['project']}" if each["project"] else ""
        publish = f"gcloud pubsub topics add-iam-policy-binding {each['topic']}{project}"
        commands.append(f"{publish} --member=$MEMBER --role=roles/pubsub.publisher")
    for each in found["secrets"]["function"] + found["secrets"]["listener"]:
        read = f"gcloud secrets add-iam-policy-binding {each['secret']} --project={each['project']}"
        commands.append(f"{read} --member=$MEMBER --role=roles/secretmanager.secretAccessor")
    return commands


def examples() -> Iterator[str]:
    """The generated part of the page."""
    for name in EXAMPLES:
        path = ROOT / "configs" / f"{name}.jsonc"
        yield f"[{name}](../configs/{name}.jsonc):\n"
        if policy := aws(path):
            yield "\n".join(["```json", *policy, "```\n"])
        else:
            skip = "<!--docs-check:skip Google-->"
            yield "\n".join([skip, "```sh", *gcp(path), "```\n"])


def page() -> str:
    """The page as it is to be committed."""
    return _MADE.sub(lambda _: "\n" + "\n".join(examples()) + "\n", PAGE.read_text(encoding="utf-8"))


def main(arguments: list[str]) -> int:
    if arguments and arguments != ["--check"]:
        print("\n".join(aws(Path(arguments[0])) + gcp(Path(arguments[0]))))
        return 0
    made, current = page(), PAGE.read_text(encoding="utf-8")
    if "--check" in arguments:
        if current != made:
            print("docs/iam.md is out of date: run python scripts/iam_policies.py")
        return int(current != made)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    raise SystemExit(main(sys.argv[1:]))
