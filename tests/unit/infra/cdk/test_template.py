"""The templates of the CDK app: every example configuration keeps the rules of docs/aws.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from functions.errors import ConfigError
from infra.access.aws import rules
from infra.bundle.deployment import read_deployment
from tests.support.infra import terraform_alarms
from tests.support.infra.template import IMAGE, Template, config_file, flat, synthesize
from tests.support.servers.relay import ROOT

pytestmark = [pytest.mark.xdist_group("cdk"), pytest.mark.slow]


def _deployable() -> list[str]:
    found = []
    for path in sorted((ROOT / "configs").glob("*.jsonc")):
        try:
            read_deployment(path, public=False)
        except ConfigError:
            continue
        found.append(path.name)
    return found


def _public(path: Path) -> dict[str, str]:
    """What the context says of a file that must not be public without a word."""
    try:
        read_deployment(path)
    except ConfigError:
        return INTERNAL
    return {}


INTERNAL: Final = {"public": "false", "clients": "10.0.0.0/8"}
"""The context of a relay for applications in networks that are connected to a new one."""

EXAMPLES: Final = _deployable()

EVERYTHING: Final[dict[str, Any]] = {
    "flows": {
        "in": {
            "filters": [
                {"type": "static-auth", "username": "app", "password": "ssm:/relay/password"},
                {"type": "whitelist", "to": ["regexp:.*@example\\.com"]},
            ],
            "outputs": [
                {
                    "type": "aws",
                    "name": "all",
                    "storage": {"bucket": "inbound", "path": "in/${id}.eml"},
                    "putOptions": {"Tagging": "a=b", "ACL": "bucket-owner-full-control"},
                    "pubsub": {"topic": "https://sqs.us-west-2.amazonaws.com/999999999999/events"},
                    "ses": {"identities": ["example.com"], "maxSendRate": 40},
                    "sendRawEmailOptions": {"ConfigurationSetName": "relay"},
                },
                {
                    "type": "aws",
                    "name": "theirs",
                    "storage": {"bucket": "theirs"},
                    "assumeRole": "arn:aws:iam::999999999999:role/mail",
                },
                {
                    "type": "mailer",
                    "nodemailer": {
                        "host": "smtp.example.com",
                        "auth": {"user": "u", "pass": "secretsmanager:smarthost"},
                    },
                },
            ],
        }
    },
    "spool": {"url": "s3://ignored/mail", "sse": "aws:kms"},
    "keepCache": True,
    "options": {"key": "secretsmanager:relay/tls-key", "cert": "secretsmanager:relay/tls-cert"},
}


TOPIC: Final = "arn:aws:sns:eu-west-1:123456789012:alarms"


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Template:
    config = config_file(tmp_path_factory.mktemp("everything"), EVERYTHING)
    return synthesize({"config": config, "image": IMAGE, "alarmTopic": TOPIC, **INTERNAL})


@pytest.fixture(scope="module", params=[*EXAMPLES, "everything"])
def template(request: pytest.FixtureRequest, everything: Template) -> Template:
    if request.param == "everything":
        return everything
    path = ROOT / "configs" / request.param
    return synthesize({"config": str(path), "image": IMAGE, **_public(path)})


@pytest.fixture(scope="module")
def stored() -> Template:
    return synthesize({"config": str(ROOT / "configs" / "mail2s3.jsonc"), "image": IMAGE})


def test_the_examples_for_aws_are_among_them() -> None:
    assert {"aws-smtp-relay.jsonc", "mail2s3.jsonc", "mail2sqs.jsonc"} <= set(EXAMPLES)


ALL_SETTINGS: Final = {
    "name": "All",
    "public": "true",
    "eips": "eipalloc-1,eipalloc-2",
    "zone": "Z1",
    "zoneName": "example.com",
    "clients": "203.0.113.0/24,198.51.100.0/24",
    "alarmTopic": "arn:aws:sns:eu-west-1:123456789012:alarms",
    "quiet": "6",
    "cpu": "1024",
    "memory": "2048",
    "least": "3",
    "most": "30",
    "functionMemory": "2048",
    "functionTimeout": "300",
    "tags": '{"team": "mail"}',
    "python": "3.12",
    "arch": "x86_64",
    "environment": '{"LEVEL": "b"}',
    "ephemeral": "true",
    "without": "dashboard,schedule",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_takes_every_setting(name: str) -> None:
    """Those of a network that is there need an account: test_a_network_that_is_there. A certificate needs a
    secret in the configuration: test_a_renewed_certificate_goes_into_the_secret_of_the_configuration."""
    path = ROOT / "configs" / name
    private = _public(path)
    settings = {key: value for key, value in ALL_SETTINGS.items() if key != "eips" or not private} | private
    found = synthesize({"config": str(path), "image": IMAGE, **settings})
    levels = {level for level, _, text in found.messages if "smtp-relay:check" not in text}
    assert not any(level.endswith(("WARNING", "ERROR")) for level in levels), found.messages
    assert found.one("Lambda::Function", "DeliveryFunction")["Runtime"] == "python3.12"
    source = (ROOT / "infra" / "cdk" / "settings.py").read_text()
    left = set(re.findall(r'context\("(\w+)"\)', source)) - set(ALL_SETTINGS)
    assert left == {"config", "image", "vpc", "functionSubnets", "certificate"}


# --- permissions ------------------------------------------------------------------------------

NO_RESOURCES: Final = frozenset({"ecr:GetAuthorizationToken", "ses:GetAccount"})


def allowed(template: Template) -> Iterator[tuple[str, list[str], list[str]]]:
    """Role, actions and resources of every statement of this project's roles."""
    for name, role in template.of("IAM::Role").items():
        for policy in role["Policies"]:
            for each in policy["PolicyDocument"]["Statement"]:
                assert each["Effect"] == "Allow"
                yield name, _listed(each["Action"]), [flat(one) for one in _listed(each["Resource"])]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_roles_have_only_their_own_policies(template: Template) -> None:
    for name, role in template.of("IAM::Role").items():
        assert "ManagedPolicyArns" not in role, name
    assert not template.of("IAM::Policy")
    assert not template.of("IAM::ManagedPolicy")


def test_every_action_is_in_the_table(template: Template) -> None:
    document = (ROOT / "docs" / "aws.md").read_text()
    for name, actions, _ in allowed(template):
        for action in actions:
            assert "*" not in action, name
            assert any(action in rule.actions for rule in rules.RULES), action
            assert f"`{action}`" in document, action


def test_everything_is_the_resource_only_where_there_is_no_other(template: Template) -> None:
    for name, actions, resources in allowed(template):
        if "*" in resources:
            assert set(actions) <= NO_RESOURCES, name
        for resource in resources:
            assert resource == "*" or re.fullmatch(r"[^*]+(?:\*)?", resource), resource


def test_wildcards_end_prefixes_of_named_things(template: Template) -> None:
    patterns = [
        r"\$\{SpoolBucket\w+\.Arn\}/(?:mail/)?(?:spool|dead|kept)/\*",
        r"arn:\$\{AWS::Partition\}:logs:.*:log-group:\$\{\w+\}:\*",
        r"arn:\$\{AWS::Partition\}:s3:::[a-z-]+/[a-z/]*\*",
        r"arn:\$\{AWS::Partition\}:ses:.*:identity/\*",
    ]
    for name, _, resources in allowed(template):
        for resource in resources:
            if resource.endswith("*") and resource != "*":
                assert any(re.fullmatch(pattern, resource) for pattern in patterns), (name, resource)


def test_the_listener_puts_into_its_prefix_and_nothing_else(template: Template) -> None:
    found = template.statements("ListenerTaskRole")
    by_action = {action: each["Resource"] for each in found for action in _listed(each["Action"])}
    secrets = {"ssm:GetParameter", "secretsmanager:GetSecretValue"}
    assert set(by_action) - secrets - {"kms:GenerateDataKey"} == {"s3:PutObject"}
    (resource,) = [flat(one) for one in _listed(by_action["s3:PutObject"])]
    assert re.fullmatch(r"\$\{SpoolBucket\w+\.Arn\}/(mail/)?spool/\*", resource)
    if "kms:GenerateDataKey" in by_action:
        assert template.of("KMS::Key")


def test_the_listeners_secrets(everything: Template) -> None:
    named = [
        flat(one)
        for each in everything.statements("ListenerTaskRole")
        if each["Sid"] in {"Parameters", "Secrets"}
        for one in _listed(each["Resource"])
    ]
    assert [one.rpartition(":")[2] for one in named] == [
        "parameter/relay/password",
        "relay/tls-cert-??????",
        "relay/tls-key-??????",
    ]


def test_the_functions_outputs(everything: Template) -> None:
    found = {each["Sid"]: each for each in everything.statements("DeliveryRole")}
    assert flat(found["Publish"]["Resource"]).endswith(":sqs:us-west-2:999999999999:events")
    assert flat(found["Assume"]["Resource"]) == "arn:aws:iam::999999999999:role/mail"
    assert flat(found["Storage"]["Resource"]) == "arn:${AWS::Partition}:s3:::inbound/in/*"
    assert "smarthost-??????" in flat(found["Secrets"]["Resource"])
    assert not [each for each in found.values() if "theirs" in json.dumps(each["Resource"])]


def test_an_image_in_ecr_may_be_pulled(stored: Template) -> None:
    found = {each["Sid"]: each for each in stored.statements("ListenerStartRole")}
    assert flat(found["Pull"]["Resource"]) == (
        "arn:${AWS::Partition}:ecr:eu-west-1:123456789012:repository/mail/smtp-relay"
    )


# --- the spool --------------------------------------------------------------------------------


def test_the_bucket(template: Template) -> None:
    ((name, bucket),) = template.of("S3::Bucket").items()
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert "VersioningConfiguration" not in bucket
    resource = template.resources[name]
    # A bucket that was made by a deployment that failed is not kept: the next one makes another.
    assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    for rule in bucket["LifecycleConfiguration"]["Rules"]:
        assert set(rule) == {"AbortIncompleteMultipartUpload", "Id", "Status"}
    prefix = "mail/" if template.of("KMS::Key") else ""
    (notify,) = bucket["NotificationConfiguration"]["QueueConfigurations"]
    assert notify["Event"] == "s3:ObjectCreated:*"
    assert notify["Filter"]["S3Key"]["Rules"] == [{"Name": "prefix", "Value": f"{prefix}spool/"}]
    assert any(each.startswith("DeliveryDoorbellsPolicy") for each in resource["DependsOn"])


def test_encryption_of_the_bucket(stored: Template, everything: Template) -> None:
    def algorithm(template: Template) -> dict[str, Any]:
        (rule,) = template.one("S3::Bucket")["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        return dict(rule)

    assert algorithm(stored)["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert algorithm(everything)["BucketKeyEnabled"] is True
    assert algorithm(everything)["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert everything.one("KMS::Key")["EnableKeyRotation"] is True


def test_the_buckets_policy(template: Template) -> None:
    found = template.one("S3::BucketPolicy")["PolicyDocument"]["Statement"]
    plain, overwriting = found
    assert plain["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert (plain["Effect"], plain["Principal"]) == ("Deny", {"AWS": "*"})
    assert (overwriting["Effect"], overwriting["Action"]) == ("Deny", "s3:PutObject")
    assert overwriting["Condition"] == {"Null": {"s3:if-none-match": "true"}}
    assert flat(overwriting["Principal"]["AWS"]).startswith("${ListenerTaskRole")
    assert flat(overwriting["Resource"]).endswith("spool/*")


def test_the_queues(template: Template) -> None:
    queue, dead = (template.one("SQS::Queue", f"Delivery{name}") for name in ("Doorbells", "DeadLetters"))
    for each in (queue, dead):
        assert each["SqsManagedSseEnabled"] is True
        assert "KmsMasterKeyId" not in each
        assert "FifoQueue" not in each
    assert queue["MessageRetentionPeriod"] == 4 * 86_400
    assert dead["MessageRetentionPeriod"] == 14 * 86_400
    assert queue["VisibilityTimeout"] == 6 * template.one("Lambda::Function", "Delivery")["Timeout"] == 720
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 10
    policies = template.of("SQS::QueuePolicy")
    (rings,) = [
        each
        for policy in policies.values()
        for each in policy["PolicyDocument"]["Statement"]
        if each["Effect"] == "Allow"
    ]
    assert rings["Principal"] == {"Service": "s3.amazonaws.com"}
    assert rings["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    assert flat(rings["Condition"]["ArnLike"]["aws:SourceArn"]) == "arn:${AWS::Partition}:s3:::*"


def test_no_part_of_a_stacks_name_admits_its_bucket(tmp_path: Path) -> None:
    """CloudFormation cuts the name in the bucket's: a policy that named it would refuse the notification."""
    template = synthesize({"name": "prod-eu-central-1-" + "smtp-relay-" * 8, "image": IMAGE})
    for policy in template.of("SQS::QueuePolicy").values():
        assert "smtp-relay" not in json.dumps(policy)


# --- the function -----------------------------------------------------------------------------


def test_the_function(template: Template) -> None:
    function = template.one("Lambda::Function", "Delivery")
    assert function["Architectures"] == ["arm64"]
    assert (function["MemorySize"], function["Timeout"]) == (1024, 120)
    assert function["Handler"] == "functions.aws.handler.handler"
    assert "VpcConfig" not in function
    assert "ReservedConcurrentExecutions" not in function
    group = template.one("Logs::LogGroup", "Delivery")
    assert group["RetentionInDays"] == 30
    assert function["LoggingConfig"]["LogGroup"] == {"Ref": next(iter(_named(template, "DeliveryLogs")))}
    mapping = template.one("Lambda::EventSourceMapping")
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert (mapping["BatchSize"], mapping["MaximumBatchingWindowInSeconds"]) == (10, 0)


def _named(template: Template, starts: str) -> list[str]:
    return [name for name in template.resources if name.startswith(starts)]


def test_receipts_have_a_table_where_outputs_need_it(template: Template, stored: Template) -> None:
    assert not stored.of("DynamoDB::Table")
    variables = template.one("Lambda::Function", "Delivery")["Environment"]["Variables"]
    tables = template.of("DynamoDB::Table")
    assert ("SMTP_RELAY_RECEIPTS_TABLE" in variables) is bool(tables)
    for name, table in tables.items():
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert table["KeySchema"] == [{"AttributeName": "id", "KeyType": "HASH"}]
        assert table["TimeToLiveSpecification"] == {"AttributeName": "expiration", "Enabled": True}
        assert template.resources[name]["DeletionPolicy"] == "RetainExceptOnCreate"


def test_ses_is_paced_by_the_mapping(everything: Template, stored: Template) -> None:
    assert everything.one("Lambda::EventSourceMapping")["ScalingConfig"] == {"MaximumConcurrency": 10}
    variables = everything.one("Lambda::Function", "Delivery")["Environment"]["Variables"]
    assert variables["SMTP_RELAY_SES_CONCURRENCY"] == "10"
    # Others have a bound too, because the account's other functions need room.
    assert stored.one("Lambda::EventSourceMapping")["ScalingConfig"] == {"MaximumConcurrency": 50}
    variables = stored.one("Lambda::Function", "Delivery")["Environment"]["Variables"]
    assert "SMTP_RELAY_SES_CONCURRENCY" not in variables


def test_the_sweep(template: Template) -> None:
    schedule = template.one("Scheduler::Schedule")
    assert schedule["ScheduleExpression"] == "rate(5 minutes)"
    assert json.loads(schedule["Target"]["Input"]) == {"sweep": True}
    (invoke,) = template.statements("DeliveryScheduleRole")
    assert invoke["Action"] == "lambda:InvokeFunction"


# --- the listener -----------------------------------------------------------------------------


def test_the_balancer(template: Template) -> None:
    balancer = template.one("ElasticLoadBalancingV2::LoadBalancer")
    attributes = {each["Key"]: each["Value"] for each in balancer["LoadBalancerAttributes"]}
    assert balancer["Type"] == "network"
    assert attributes["load_balancing.cross_zone.enabled"] == "true"
    assert len(balancer["SecurityGroups"]) == 1
    outside = [each["Port"] for each in template.of("ElasticLoadBalancingV2::Listener").values()]
    assert sorted(outside) == [25, 465, 587]
    for listener in template.of("ElasticLoadBalancingV2::Listener").values():
        assert listener["Protocol"] == "TCP", "STARTTLS rules out TLS at the balancer"


def test_strangers_reach_only_outputs_that_send_nothing_on(everything: Template, stored: Template) -> None:
    def scheme(template: Template) -> tuple[str, set[str]]:
        group = template.one("EC2::SecurityGroup", "ListenerBalancerGroup")
        peers = {each["CidrIp"] for each in group["SecurityGroupIngress"]}
        return template.one("ElasticLoadBalancingV2::LoadBalancer")["Scheme"], peers

    assert scheme(stored) == ("internet-facing", {"0.0.0.0/0"})
    assert scheme(everything) == ("internal", {"10.0.0.0/8"})
    limited = synthesize({"image": IMAGE, "clients": "192.0.2.0/24,198.51.100.0/24"})
    assert scheme(limited) == ("internet-facing", {"192.0.2.0/24", "198.51.100.0/24"})


def test_a_balancer_of_another_scheme_has_other_targets(stored: Template) -> None:
    """CloudFormation cannot attach a target group to a balancer before it is detached from the old one."""
    other = synthesize({"config": str(ROOT / "configs" / "mail2s3.jsonc"), "image": IMAGE, **INTERNAL})
    kind = "ElasticLoadBalancingV2::TargetGroup"
    assert len(other.of(kind)) == len(stored.of(kind)) == 3
    assert not other.of(kind).keys() & stored.of(kind).keys()


def test_another_output_does_not_change_who_reaches_the_balancer(tmp_path: Path) -> None:
    value = json.loads(json.dumps(EVERYTHING))
    value["flows"]["in"]["outputs"] = [{"type": "aws", "storage": {"bucket": "b"}}]
    config = config_file(tmp_path, value)
    assert synthesize({"config": config, "image": IMAGE})
    value["flows"]["in"]["outputs"].append({"type": "aws", "ses": {"identities": ["example.com"]}})
    config_file(tmp_path, value)
    with pytest.raises(ConfigError, match="say public=true or public=false"):
        read_deployment(Path(config))
    assert read_deployment(Path(config), public=False).public is False


def test_the_targets(template: Template) -> None:
    groups = template.of("ElasticLoadBalancingV2::TargetGroup").values()
    assert sorted(each["Port"] for each in groups) == [10025, 10465, 10587]
    for each in groups:
        attributes = {one["Key"]: one["Value"] for one in each["TargetGroupAttributes"]}
        assert attributes["proxy_protocol_v2.enabled"] == "true"
        assert attributes["deregistration_delay.timeout_seconds"] == "90"
        assert each["TargetType"] == "ip"
        check = each["HealthCheckProtocol"], each["HealthCheckPort"], each["HealthCheckPath"]
        assert check == ("HTTP", "9090", "/healthz")


def test_only_the_balancer_reaches_the_tasks(template: Template) -> None:
    tasks = template.one("EC2::SecurityGroup", "ListenerTaskGroup")
    assert "SecurityGroupIngress" not in tasks
    (balancer,) = _named(template, "ListenerBalancerGroup")[:1]
    admitted = template.of("EC2::SecurityGroupIngress").values()
    assert sorted(each["FromPort"] for each in admitted) == [9090, 10025, 10465, 10587]
    for each in admitted:
        assert flat(each["SourceSecurityGroupId"]) == f"${{{balancer}.GroupId}}"
        assert each["FromPort"] == each["ToPort"]


def test_the_tasks(template: Template) -> None:
    task = template.one("ECS::TaskDefinition")
    assert (task["Cpu"], task["Memory"]) == ("256", "512")
    assert task["RuntimePlatform"]["CpuArchitecture"] == "ARM64"
    (container,) = task["ContainerDefinitions"]
    assert container["StopTimeout"] == 120
    assert container["User"] == "10025:10025"
    assert container["ReadonlyRootFilesystem"] is True
    assert container["WorkingDirectory"] == "/tmp"
    assert container["MountPoints"] == [
        {"ContainerPath": "/tmp", "ReadOnly": False, "SourceVolume": "tmp"},
    ]
    assert task["Volumes"] == [{"Name": "tmp"}], "of the task's own: nothing outlives it"
    variables = {each["Name"]: each["Value"] for each in container["Environment"]}
    assert set(variables) == {
        "SMTP_RELAY_CONFIG_JSON",
        "SMTP_RELAY_SPOOL",
        "SMTP_RELAY_LISTENERS",
        "SMTP_RELAY_TRUSTED_PROXIES",
        "SMTP_RELAY_HEALTH_PORT",
    }
    assert json.loads(variables["SMTP_RELAY_CONFIG_JSON"])["options"]["closeTimeout"] == 60_000
    # The security group admits the balancer alone, whose nodes may have addresses of any block.
    assert variables["SMTP_RELAY_TRUSTED_PROXIES"] == "0.0.0.0/0"
    assert flat(variables["SMTP_RELAY_SPOOL"]).startswith("s3://${SpoolBucket")


def test_the_service(template: Template) -> None:
    service = template.one("ECS::Service")
    deployment = service["DeploymentConfiguration"]
    assert deployment["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert (deployment["MinimumHealthyPercent"], deployment["MaximumPercent"]) == (100, 200)
    assert service["HealthCheckGracePeriodSeconds"] == 60
    assert service["AvailabilityZoneRebalancing"] == "ENABLED"
    assert service["NetworkConfiguration"]["AwsvpcConfiguration"]["AssignPublicIp"] == "ENABLED"
    assert "DesiredCount" not in service
    scaling = template.one("ApplicationAutoScaling::ScalableTarget")
    assert (scaling["MinCapacity"], scaling["MaxCapacity"]) == (2, 10)
    policy = template.one("ApplicationAutoScaling::ScalingPolicy")
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 50
    (name,) = _named(template, "ListenerServiceF") or _named(template, "ListenerService")[:1]
    assert any(each.startswith("DeliveryFunction") for each in template.resources[name]["DependsOn"])


def test_the_network(template: Template) -> None:
    assert not template.of("EC2::NatGateway")
    assert not template.of("EC2::EIP")
    endpoint = template.one("EC2::VPCEndpoint")
    assert endpoint["VpcEndpointType"] == "Gateway"
    assert len(template.of("EC2::Subnet")) == 2


# --- alarms and dashboard ---------------------------------------------------------------------


def test_the_alarms(everything: Template, stored: Template) -> None:
    names = {re.sub(r"^Alarms|[0-9A-F]{8}$", "", name) for name in everything.of("CloudWatch::Alarm")}
    assert names == {
        *("Oldest", "NoSweep", "Dead", "Crashed", "Errors", "SesClosed", "InDoubt", "NoLogin"),
        *("Throttles", "FunctionMemory", "Deferred", "Healthy", "Memory", "UntrustedProxy", "Quiet"),
        "Certificate",
    }
    assert {re.sub(r"^Alarms|[0-9A-F]{8}$", "", name) for name in stored.of("CloudWatch::Alarm")} == (
        names - {"SesClosed", "InDoubt", "NoLogin", "Certificate"}
    )
    oldest = everything.one("CloudWatch::Alarm", "AlarmsOldest")
    assert (oldest["MetricName"], oldest["Threshold"]) == ("OldestUnfinished", 1800)
    assert oldest["Dimensions"] == [{"Name": "service", "Value": {"Ref": "AWS::StackName"}}]
    sweep = everything.one("CloudWatch::Alarm", "AlarmsNoSweep")
    assert (sweep["Period"], sweep["TreatMissingData"]) == (900, "breaching")
    quiet = everything.one("CloudWatch::Alarm", "AlarmsQuiet")
    assert (quiet["Period"], quiet["EvaluationPeriods"], quiet["TreatMissingData"]) == (3600, 24, "breaching")
    healthy = everything.one("CloudWatch::Alarm", "AlarmsHealthy")
    watched = [each["MetricStat"] for each in healthy["Metrics"] if "MetricStat" in each]
    assert [each["Stat"] for each in watched] == ["Maximum"] * 3
    for alarm in everything.of("CloudWatch::Alarm").values():
        assert alarm["AlarmActions"] == [TOPIC]
    assert "AlarmActions" not in stored.one("CloudWatch::Alarm", "AlarmsOldest")


def test_terraform_has_the_same_alarms(everything: Template) -> None:
    made = {}
    for name, alarm in everything.of("CloudWatch::Alarm").items():
        metric = alarm.get("MetricName")
        if isinstance(metric, dict):  # with the stack's name behind it
            metric = metric["Fn::Join"][1][0].rstrip("-")
        made[terraform_alarms.key(re.sub(r"^Alarms|[0-9A-F]{8}$", "", name))] = terraform_alarms.Alarm(
            alarm["AlarmDescription"],
            alarm.get("Namespace"),
            metric,
            frozenset(one["Name"] for one in alarm.get("Dimensions", ())),
            alarm.get("Statistic"),
            alarm["Threshold"],
            alarm["ComparisonOperator"] == "GreaterThanThreshold",
            alarm.get("Period"),
            alarm["EvaluationPeriods"],
            alarm["TreatMissingData"],
        )
    written = terraform_alarms.aws()
    assert written.keys() == made.keys()
    for name, alarm in written.items():
        if alarm.threshold is None:  # the number of tasks, an input of the module
            alarm = alarm._replace(threshold=made[name].threshold)
        assert alarm == made[name], name


def test_the_functions_metrics_are_those_that_alarms_compare(everything: Template) -> None:
    variables = everything.one("Lambda::Function", "Delivery")["Environment"]["Variables"]
    assert variables["POWERTOOLS_SERVICE_NAME"] == {"Ref": "AWS::StackName"}


def test_outputs(template: Template) -> None:
    assert set(template.value["Outputs"]) == {
        *("SpoolBucket", "Queue", "DeadLetterQueue", "Function", "ListenerEndpoint"),
    }


def test_nag_and_cdk_find_nothing(template: Template) -> None:
    found = [one for one in template.messages if "smtp-relay:check" not in one[2]]
    levels = {level.rpartition(".")[2] for level, *_ in found}
    assert levels <= {"INFO"}, found


def test_nothing_secret_is_in_it(everything: Template) -> None:
    for text in everything.texts():
        assert not text.startswith("plain:")
    assert "secretsmanager:smarthost" in json.dumps(everything.value)


# --- names, addresses, queries ----------------------------------------------------------------


def test_addresses_and_names_that_stay(stored: Template) -> None:
    fixed = {"config": str(ROOT / "configs" / "mail2s3.jsonc"), "image": IMAGE}
    eips = {"eips": "eipalloc-1,eipalloc-2"}
    named = synthesize({**fixed, **eips, "zone": "Z1", "zoneName": "example.com"})
    balancer = named.one("ElasticLoadBalancingV2::LoadBalancer")
    assert [each["AllocationId"] for each in balancer["SubnetMappings"]] == ["eipalloc-1", "eipalloc-2"]
    assert len({json.dumps(each["SubnetId"]) for each in balancer["SubnetMappings"]}) == 2
    assert "Subnets" not in balancer
    records = {each["Type"]: each for each in named.of("Route53::RecordSet").values()}
    assert records["A"]["Name"] == "mx.example.com."
    assert "AliasTarget" in records["A"]
    assert records["MX"]["Name"] == "example.com."
    assert records["MX"]["ResourceRecords"] == ["10 mx.example.com."]
    assert not stored.of("Route53::RecordSet")
    with pytest.raises(ConfigError, match="one for each public subnet"):
        synthesize({**fixed, "eips": "eipalloc-1"})


def test_an_internal_relay_gets_no_mail_of_its_zone() -> None:
    config = str(ROOT / "configs" / "aws-smtp-relay.jsonc")
    zone = {"zone": "Z1", "zoneName": "example.com"}
    named = synthesize({"config": config, "image": IMAGE, **INTERNAL, **zone})
    assert [each["Type"] for each in named.of("Route53::RecordSet").values()] == ["A"]


def test_queries_find_one_mail_in_both_halves(template: Template) -> None:
    found = {flat(each["Name"]): each for each in template.of("Logs::QueryDefinition").values()}
    assert sorted(found) == [
        "${AWS::StackName}/mails by recipient or Message-ID",
        "${AWS::StackName}/one mail by id",
    ]
    for each in found.values():
        groups = [flat(one) for one in each["LogGroupNames"]]
        assert [one.strip("${}").partition("Logs")[0] for one in groups] == ["Delivery", "Listener"]


def test_terraform_has_the_same_queries(template: Template) -> None:
    text = re.sub(r"\n +", "\n", (ROOT / "infra" / "terraform" / "aws" / "queries.tf").read_text())
    for each in template.of("Logs::QueryDefinition").values():
        assert each["QueryString"] in text


def test_a_task_takes_its_role_in_this_account_only(template: Template) -> None:
    role = template.one("IAM::Role", "ListenerTaskRole")
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


CERTIFICATE: Final = "arn:aws:acm:eu-west-1:123456789012:certificate/0b5d3c1e-1111-2222-3333-444455556666"


def with_certificate(tmp_path: Path, reference: str, **more: str) -> Template:
    config = {**EVERYTHING, "options": {"cert": reference, **more}}
    context = {
        "config": config_file(tmp_path, config),
        "image": IMAGE,
        "certificate": CERTIFICATE,
        **INTERNAL,
    }
    return synthesize(context)


def test_a_renewed_certificate_goes_into_the_secret_of_the_configuration(tmp_path: Path) -> None:
    template = with_certificate(tmp_path, "secretsmanager:relay/tls")
    assert template.one("SecretsManager::Secret")["Name"] == "relay/tls"
    allowed = {each["Sid"]: each for each in template.statements("CertificateRole")}
    assert set(allowed) == {"Export", "Save", "Logs"}
    assert allowed["Export"]["Action"] == "acm:ExportCertificate"
    assert allowed["Export"]["Resource"] == CERTIFICATE
    assert allowed["Save"]["Action"] == "secretsmanager:PutSecretValue"
    (secret,) = template.of("SecretsManager::Secret")
    assert allowed["Save"]["Resource"] == {"Ref": secret}
    rule = template.one("Events::Rule", "CertificateRenewed")
    assert rule["EventPattern"] == {
        "source": ["aws.acm"],
        "detail-type": ["ACM Certificate Available"],
        "resources": [CERTIFICATE],
    }
    function = template.one("Lambda::Function", "CertificateFunction")
    assert function["Environment"]["Variables"] == {"CERTIFICATE": CERTIFICATE, "SECRET": {"Ref": secret}}
    assert "def handler" in function["Code"]["ZipFile"]
    (service,) = template.of("ECS::Service")
    waits = template.resources[service]["DependsOn"]
    assert any(each.startswith("CertificateStored") for each in waits)
    errors = [text for level, _, text in template.messages if level == "error"]
    assert not errors, "cdk-nag"


def test_a_secret_with_an_arn_is_there_already(tmp_path: Path) -> None:
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:relay/tls-AbCdEf"
    template = with_certificate(tmp_path, f"secretsmanager:{arn}", key=f"secretsmanager:{arn}")
    assert not template.of("SecretsManager::Secret")
    (save,) = [each for each in template.statements("CertificateRole") if each["Sid"] == "Save"]
    assert save["Resource"] == arn


def test_a_certificate_without_one_secret_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='write "cert": "secretsmanager:NAME"'):
        with_certificate(tmp_path, "secretsmanager:relay/tls", key="secretsmanager:relay/key")


def test_a_finding_that_is_not_on_the_list_fails() -> None:
    """A bucket of someone else, beside the stack's own ones."""
    import aws_cdk
    from aws_cdk import aws_s3

    from infra.cdk.nag import AwsSolutionsChecks, suppress

    app = aws_cdk.App(context={"@aws-cdk/core:checkSecretUsage": True})
    stack = aws_cdk.Stack(app, "New")
    aws_s3.Bucket(stack, "Bucket")
    suppress(stack)
    aws_cdk.Aspects.of(app).add(AwsSolutionsChecks(verbose=True))
    messages = [str(each.entry.data) for each in app.synth().stacks[0].messages]
    assert any("AwsSolutions-S1" in each for each in messages), messages


IDS: Final = {
    "S3::Bucket": {"SpoolBucket321DE45A"},
    "DynamoDB::Table": {"DeliveryReceipts09C0CB9D"},
    "SQS::Queue": {"DeliveryDoorbellsEA63133E", "DeliveryDeadLettersA8B3558F"},
}
"""Logical ids of what holds mails: CloudFormation replaces, and thus empties, a resource whose id changes."""


def test_what_holds_mails_keeps_its_logical_id(everything: Template) -> None:
    for kind, names in IDS.items():
        assert set(everything.of(kind)) == names, kind


# --- the guard --------------------------------------------------------------------------------


def test_the_guard_goes_first(stored: Template) -> None:
    (name,) = stored.of("CloudFormation::CustomResource")
    waits = stored.resources[name]["DependsOn"]
    for starts in (
        *("DeliveryFunction", "DeliveryMapping", "ListenerServiceF", "ListenerBalancer"),
        *("AlarmsOldest", "Dashboard", "Accepted", "VpcS3"),
    ):
        assert any(each.startswith(starts) for each in waits), starts
    (owed, _) = stored.statements("GuardRole")
    assert owed["Action"] == "s3:ListBucket"


def test_a_stack_is_protected_unless_it_is_for_a_test(stored: Template) -> None:
    assert stored.is_protected
    assert not synthesize({"ephemeral": "true", "image": IMAGE}).is_protected


def test_what_does_not_outlive_a_test() -> None:
    config = str(ROOT / "configs" / "mail2sqs.jsonc")
    context = {"config": config, "ephemeral": "true", "without": "listener,alarms,dashboard,schedule"}
    template = synthesize(context)
    assert {one.get("DeletionPolicy") for one in template.resources.values()} <= {None, "Delete"}
    (guard,) = template.of("CloudFormation::CustomResource").values()
    assert guard["Ephemeral"] == "true"
    for kind in ("ECS::Service", "EC2::VPC", "CloudWatch::Alarm", "Scheduler::Schedule"):
        assert not template.of(kind), kind
    assert "ListenerEndpoint" not in template.value["Outputs"]


def test_the_image_is_built_from_its_dockerfile_where_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = synthesize({"without": "alarms,dashboard,autoscaling"})
    (container,) = template.one("ECS::TaskDefinition")["ContainerDefinitions"]
    assert ".dkr.ecr." in flat(container["Image"])
    found = {each["Sid"]: each for each in template.statements("ListenerStartRole")}
    assert "container-assets" in flat(found["Pull"]["Resource"])


def test_a_network_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """CDK's values for a lookup: a network with private subnets."""
    monkeypatch.setenv("CDK_DEFAULT_ACCOUNT", "123456789012")
    monkeypatch.setenv("CDK_DEFAULT_REGION", "eu-west-1")
    template = synthesize({"vpc": "vpc-12345", "image": IMAGE, "without": "alarms,dashboard"})
    assert not template.of("EC2::VPC")
    service = template.one("ECS::Service")["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert service["AssignPublicIp"] == "DISABLED"


def test_an_internal_balancer_admits_every_block_of_a_network_that_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from aws_cdk import aws_ec2 as ec2

    from infra.cdk.parts import network

    monkeypatch.setenv("CDK_DEFAULT_ACCOUNT", "123456789012")
    monkeypatch.setenv("CDK_DEFAULT_REGION", "eu-west-1")
    assert network._widest(["10.0.0.0/16", "10.0.1.0/24", "100.64.0.0/20"]) == [
        *("10.0.0.0/16", "100.64.0.0/20")
    ]
    template = synthesize({"vpc": "vpc-12345", "image": IMAGE, "public": "false", "without": "dashboard"})
    group = template.one("EC2::SecurityGroup", "ListenerBalancerGroup")
    assert {each["CidrIp"] for each in group["SecurityGroupIngress"]}
    assert ec2.Vpc.from_lookup is not None


def test_sizes_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDK_DEFAULT_ACCOUNT", "123456789012")
    monkeypatch.setenv("CDK_DEFAULT_REGION", "eu-west-1")
    template = synthesize(
        {
            **{
                "image": IMAGE,
                "vpc": "vpc-12345",
                "cpu": "1024",
                "memory": "2048",
                "least": "3",
                "most": "20",
            },
            **{"functionMemory": "2048", "functionTimeout": "300", "functionSubnets": "subnet-1,subnet-2"},
            "tags": json.dumps({"team": "mail"}),
        }
    )
    task = template.one("ECS::TaskDefinition")
    assert (task["Cpu"], task["Memory"]) == ("1024", "2048")
    scaling = template.one("ApplicationAutoScaling::ScalableTarget")
    assert (scaling["MinCapacity"], scaling["MaxCapacity"]) == (3, 20)
    function = template.one("Lambda::Function", "Delivery")
    assert (function["MemorySize"], function["Timeout"]) == (2048, 300)
    assert template.one("SQS::Queue", "DeliveryDoorbells")["VisibilityTimeout"] == 1800
    assert function["VpcConfig"]["SubnetIds"] == ["subnet-1", "subnet-2"]
    (network,) = [each for each in template.statements("DeliveryRole") if each["Sid"] == "Network"]
    assert network["Resource"] == "*"
    assert template.one("CloudWatch::Alarm", "AlarmsHealthy")["Threshold"] == 3
    # CloudFormation gives the tags of a stack to its resources.
    assert template.tags == {"team": "mail"}


def context_of(values: Mapping[str, Any]) -> Any:
    return values.get


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        ({"without": "alarm"}, "is not one"),
        ({"ephemeral": "yes"}, "neither true nor false"),
        ({"arch": "sparc"}, "not one of Lambda's"),
        ({"clients": "10.0.0.0/8,office"}, "give IPv4 networks"),
        ({"public": "false"}, "no application could reach the load balancer"),
        ({"least": "5", "most": "4"}, "more than most"),
        ({"cpu": "half"}, "not a number from"),
        ({"quiet": "25"}, "not a number from 0 to 24"),
        ({"functionSubnets": "subnet-1"}, "say -c vpc=ID"),
        ({"certificate": "arn:aws:iam::1:server-certificate/x"}, "no ARN of a certificate"),
        ({"zone": "Z1"}, "goes with -c zoneName"),
        ({"eips": "eipalloc-1", "public": "false", "clients": "10.0.0.0/8"}, "addresses for strangers"),
    ],
)
def test_contexts_that_say_nothing(context: dict[str, str], reason: str) -> None:
    from infra.cdk.settings import read_settings

    with pytest.raises(ConfigError, match=reason):
        read_settings(context_of(context))
