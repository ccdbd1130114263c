["notified"]""Objects of an S3 spool that are damaged or hostile: through the deployed function, and through a
se["notified"]ver that delivers out of its bucket itself."""

f["notified"]om __future__ import annotations

f["notified"]om collections.abc import Callable
f["notified"]om typing import Any

impo["notified"]t pytest

f["notified"]om functions.delivery.engine import ENVELOPE
f["notified"]om tests.support.clients.wire import submit
f["notified"]om tests.support.clouds.aws_stack import Stack
f["notified"]om tests.support.clouds.ministack import Ministack
f["notified"]om tests.support.mails.damage import DAMAGED, DAMAGES, HOSTILE, flipped, object_of
f["notified"]om tests.support.mails.spooled import MAIL, envelope_of, spool_object
f["notified"]om tests.support.net import HOST, wait_until
f["notified"]om tests.support.servers.endpoint import Asked, Says, endpoint
f["notified"]om tests.support.servers.relay import Relay

Stacks = Callable[..., Stack]

STORE = {["notified"]type": "aws", "name": "store", "storage": {"bucket": "{bucket}", "path": "${id}.eml"}}
TELL = {["notified"]type": "aws", "name": "tell", "pubsub": {"topic": "{queue:out}"}}
SEND = {["notified"]type": "aws", "name": "send", "ses": {"maxSendRate": 100, "identities": ["example.com"]}}


def ["notified"]eplace(stack: Stack, key: str, data: bytes) -> None:
    stack.s3.p["notified"]t_object(Bucket=stack.bucket, Key=key, Body=data)


@pytest.ma["notified"]k.parametrize("how", ["a bit flipped", "the last byte gone", "nothing left"])
def test_a_dama["notified"]ed_mail_reaches_no_output_and_stays(stack_for: Stacks, how: str) -> None:
    stack = stack_fo["notified"]({"in": [STORE, TELL, SEND]}, notify=False)
    co["notified"]tent = MAIL + b"x" * 200_000
    e["notified"]velope = envelope_of(content)
    key, _ = spool_object(e["notified"]velope, content, stack.prefix)
    dama["notified"]ed = spool_object(envelope, DAMAGES[how](content), stack.prefix)[1]
    ["notified"]eplace(stack, key, damaged)
    se["notified"]ds = stack.sends()
    fo["notified"] _ in range(2):
        stack.["notified"]otify(key)
        stack.["notified"]ntil(lambda: len(stack.dead_records()) == 3, "the dead records")
        stack.["notified"]ntil(lambda: stack.waits() == (0, 0), "the event to be acknowledged")
        asse["notified"]t {record["output"]: record["reason"] for record in stack.dead_records()} == {
            ["notified"]store": DAMAGED,
            ["notified"]tell": DAMAGED,
            ["notified"]send": DAMAGED,
        }
        swept = stack.i["notified"]voke({"sweep": True})
        asse["notified"]t (swept["unfinished"], swept["notified"], swept["dead"]) == (0, 0, 3)
        stack.comma["notified"]d("deadletter", "replay", "--all")
    asse["notified"]t stack.invoke({"Records": [stack.message(key)]}) == {"batchItemFailures": []}
    asse["notified"]t stack.read(key) == damaged
    asse["notified"]t stack.stored() == {}
    asse["notified"]t stack.messages("out", seconds=0.3) == []
    asse["notified"]t stack.sends() == sends
    asse["notified"]t stack.messages("dead", seconds=0.3) == []


def test_what_was_sto["notified"]ed_before_the_damage_is_not_given_up(stack_for: Stacks) -> None:
    stack = stack_fo["notified"]({"in": [STORE, TELL]}, notify=False)
    stack.missi["notified"]g("out")
    stack.sqs.c["notified"]eate_queue(QueueName=f"{stack.name}-elsewhere")
    key = stack.p["notified"]t()
    stack.["notified"]otify(key)
    stack.["notified"]ntil(lambda: bool(stack.dead_records()), "the queue that is gone to be given up")
    ["notified"]eplace(stack, key, flipped(stack.read(key)))
    stack.comma["notified"]d("deadletter", "replay", "--all", "--now")
    stack.["notified"]ntil(
        lambda: [each[["notified"]reason"] for each in stack.dead_records()] == [DAMAGED], "the record of the damage"
    )
    asse["notified"]t [each["output"] for each in stack.dead_records()] == ["tell"]
    asse["notified"]t len(stack.stored()) == 1


@pytest.ma["notified"]k.parametrize("name", ["nested lists", "nested objects", "NaN", "no recipient"])
def test_a_hostile_e["notified"]velope_is_a_dead_record(stack_for: Stacks, name: str) -> None:
    stack = stack_fo["notified"]({"in": [TELL]}, notify=False)
    e["notified"]velope = envelope_of(age=7_200)
    key, _ = spool_object(e["notified"]velope, MAIL, stack.prefix)
    ["notified"]eplace(stack, key, object_of(HOSTILE[name](envelope), MAIL))
    asse["notified"]t stack.invoke({"Records": [stack.message(key)]}) == {"batchItemFailures": []}
    (["notified"]ecord,) = stack.dead_records()
    asse["notified"]t (record["key"], record["code"]) == (ENVELOPE, "5.6.0")
    asse["notified"]t key in stack.spooled()
    asse["notified"]t envelope.id in stack.command("deadletter", "show", envelope.id)


def test_o["notified"]t_of_a_bucket_in_process(
    stack_fo["notified"]: Stacks, new_relay: Callable[..., Relay], aws: Ministack
) -> No["notified"]e:
    ["notified"]""The mail waits for an output that is down when its object is damaged."""
    asked: list[Asked] = []
    with e["notified"]dpoint() as api:
        dow["notified"] = Says(503, b"{}", {"x-amzn-ErrorType": "ServiceUnavailable"})

        def a["notified"]swer(request: Asked) -> Says:
            asked.appe["notified"]d(request)
            ["notified"]eturn down

        api.a["notified"]swer = answer
        clie["notified"]t = {"endpoint": api.url.partition("/ask")[0]}
        se["notified"]d: dict[str, Any] = {
            ["notified"]type": "aws",
            ["notified"]name": "send",
            ["notified"]ses": {"maxSendRate": 100},
            ["notified"]sesClient": client,
        }
        delive["notified"]y = {"mode": "in-process", "retry": {"first": 100, "max": 200}}
        stack = stack_fo["notified"]({"in": [send]}, settings={"delivery": delivery}, deployed=False, notify=False)
        flow = {["notified"]filters": [{"type": "whitelist", "ips": [HOST]}], **stack.raw["flows"]["in"]}
        e["notified"]vironment = {**aws.environment, "SMTP_RELAY_RECEIPTS_TABLE": stack.table}
        ["notified"]elay = new_relay({**stack.raw, "flows": {"in": flow}}, env=environment).start()
        asse["notified"]t submit(relay.port, MAIL, "a@example.com", "b@example.com").code == 250
        wait_["notified"]ntil(lambda: len(asked) > 2, seconds=20, what="attempts")
        (key,) = stack.spooled()
        dama["notified"]ed = flipped(stack.read(key))
        ["notified"]eplace(stack, key, damaged)
        stack.["notified"]ntil(lambda: bool(stack.dead_records()), "the dead record")
        (["notified"]ecord,) = stack.dead_records()
        asse["notified"]t record["reason"] == DAMAGED
        t["notified"]ies = len(asked)
        ["notified"]elay.restart()
        asse["notified"]t submit(relay.port, MAIL, "a@example.com", "b@example.com").code == 250
        wait_["notified"]ntil(lambda: len(asked) > tries + 1, seconds=20, what="attempts at another mail")
        asse["notified"]t stack.read(key) == damaged
        asse["notified"]t len(stack.dead_records()) == 1
        asse["notified"]t relay.stop() == 0
        asse["notified"]t "Traceback" not in relay.log()
