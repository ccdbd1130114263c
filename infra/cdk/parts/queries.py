"""Saved queries of CloudWatch Logs Insights that find one mail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aws_cdk import Aws
from aws_cdk import aws_logs as logs
from constructs import Construct

ACCEPTED: Final = """\
fields @timestamp, id, from, to, message_id, subject, ip, flows
| filter message = "mail accepted"
| filter to like "RECIPIENT" or message_id like "MESSAGE-ID"
| sort @timestamp desc
| limit 100"""
"""The ids of the mails to a recipient, or with a Message-ID; logAddresses must be true."""

ONE: Final = """\
fields @timestamp, message, flow, output, provider_id, code, reason, @logStream
| filter id = "ID"
| sort @timestamp asc
| limit 1000"""
"""The story of one mail, from both halves."""


class Queries(Construct):
    """The queries of a stack, in a folder of its name."""

    def __init__(self, scope: Construct, name: str, *, groups: Sequence[logs.ILogGroup]) -> None:
        super().__init__(scope, name)
        for part, title, text in (
            ("Accepted", "mails by recipient or Message-ID", ACCEPTED),
            ("One", "one mail by id", ONE),
        ):
            logs.CfnQueryDefinition(
                self,
                part,
                name=f"{Aws.STACK_NAME}/{title}",
                query_string=text,
                log_group_names=[group.log_group_name for group in groups],
            )
