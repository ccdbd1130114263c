"""The names of a listener in a hosted zone of Route 53."""

from __future__ import annotations

from typing import Final

from aws_cdk import aws_route53 as route53
from aws_cdk import aws_route53_targets as targets
from constructs import Construct

from infra.cdk.parts.listener import Listener

HOST: Final = "mx"


class Names(Construct):
    """`mx.ZONE` is the load balancer. If it is public, the zone's mail goes there."""

    def __init__(
        self, scope: Construct, name: str, *, zone: str, zone_name: str, listener: Listener, public: bool
    ) -> None:
        super().__init__(scope, name)
        found = route53.HostedZone.from_hosted_zone_attributes(
            self, "Zone", hosted_zone_id=zone, zone_name=zone_name
        )
        # RFC 2181 section 10.3: the host of an MX record must have addresses, and no CNAME record.
        alias = route53.RecordTarget.from_alias(targets.LoadBalancerTarget(listener.balancer))
        route53.ARecord(self, "Host", zone=found, record_name=HOST, target=alias)
        if public:
            host = route53.MxRecordValue(priority=10, host_name=f"{HOST}.{zone_name.rstrip('.')}.")
            route53.MxRecord(self, "Mx", zone=found, values=[host])
