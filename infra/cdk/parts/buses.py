"""An archive of the events of each bus: a bus drops an event that no rule matches, and says nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from aws_cdk import Aws, CfnCondition, Fn
from aws_cdk import aws_events as events
from constructs import Construct

from functions.aws.output.event_bus import SOURCE

DAYS: Final = 14


class Archives(Construct):
    """Keeps the events of buses of this account and region; the owner of another bus keeps its events."""

    def __init__(self, scope: Construct, name: str, buses: Iterable[str]) -> None:
        super().__init__(scope, name)
        for arn in buses:
            region, account = arn.split(":")[3:5]
            mark = hashlib.sha256(arn.encode()).hexdigest()[:8]
            here = CfnCondition(
                self,
                f"Here{mark}",
                expression=Fn.condition_and(
                    Fn.condition_equals(Aws.REGION, region), Fn.condition_equals(Aws.ACCOUNT_ID, account)
                ),
            )
            archive = events.CfnArchive(
                self,
                f"Archive{mark}",
                source_arn=arn,
                description="Events of mails",
                event_pattern={"source": [SOURCE]},
                retention_days=DAYS,
            )
            archive.cfn_options.condition = here
