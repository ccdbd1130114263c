"""The listener's network: a new one, or an existing one."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

CIDR: Final = "10.0.0.0/16"


class Network(NamedTuple):
    """A VPC and its addresses."""

    vpc: ec2.IVpc
    cidrs: tuple[str, ...]
    """All blocks that are known: CDK's context has only a network's first one, and its subnets'."""


def network(scope: Construct, vpc_id: str | None) -> Network:
    """A VPC by its id, else a new one: public subnets in two zones, no NAT, an endpoint for S3."""
    if vpc_id is not None:
        found = ec2.Vpc.from_lookup(scope, "Vpc", vpc_id=vpc_id)
        subnets = [*found.public_subnets, *found.private_subnets, *found.isolated_subnets]
        blocks = {found.vpc_cidr_block, *(each.ipv4_cidr_block for each in subnets)}
        return Network(found, tuple(_widest(blocks)))
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
    return Network(made, (CIDR,))


def _widest(blocks: Iterable[str]) -> list[str]:
    """The blocks that lie in no other one, in order."""
    networks = [ipaddress.IPv4Network(each, strict=False) for each in blocks]
    return [str(each) for each in ipaddress.collapse_addresses(networks)]


def allow(group: ec2.SecurityGroup, peers: Sequence[ec2.IPeer], ports: Sequence[int], why: str) -> None:
    """Allow peers on TCP ports."""
    for peer in peers:
        for port in ports:
            group.add_ingress_rule(peer, ec2.Port.tcp(port), why)
