"""The listener's network: a new one, or an existing one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

CIDR: Final = "10.0.0.0/16"


class Network(NamedTuple):
    """A VPC and its addresses."""

    vpc: ec2.IVpc
    cidr: str


def network(scope: Construct, vpc_id: str | None) -> Network:
    """A VPC by its id, else a new one: public subnets in two zones, no NAT, an endpoint for S3."""
    if vpc_id is not None:
        found = ec2.Vpc.from_lookup(scope, "Vpc", vpc_id=vpc_id)
        return Network(found, found.vpc_cidr_block)
    made = ec2.Vpc(
        scope,
        "Vpc",
        ip_addresses=ec2.IpAddresses.cidr(CIDR),
        max_azs=2,
        nat_gateways=0,
        subnet_configuration=[
            ec2.SubnetConfiguration(name="Public", subnet_type=ec2.SubnetType.PUBLIC, cidr_mask=24)
        ],
        gateway_endpoints={"S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3)},
        restrict_default_security_group=False,
    )
    return Network(made, CIDR)


def allow(group: ec2.SecurityGroup, peers: Sequence[ec2.IPeer], ports: Sequence[int], why: str) -> None:
    """Allow peers on TCP ports."""
    for peer in peers:
        for port in ports:
            group.add_ingress_rule(peer, ec2.Port.tcp(port), why)
