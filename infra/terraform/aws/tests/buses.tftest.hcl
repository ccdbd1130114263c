# Archives of the buses that outputs publish to: tests/unit/infra/terraform/test_aws_plans.py runs it.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
}

run "a_bus_of_this_account_and_region_has_an_archive" {
  command = plan

  module {
    source = "./modules/delivery"
  }

  variables {
    name       = "relay"
    place      = { partition = "aws", region = "eu-west-1", account = "123456789012" }
    bucket     = "spool"
    bucket_arn = "arn:aws:s3:::spool"
    archive    = "tests/policy.json.tftpl"
    policy     = "tests/policy.json.tftpl"
    runtime    = "python3.13"
    receipts   = true
    buses = [
      "arn:aws:events:eu-west-1:123456789012:event-bus/mail",
      "arn:aws:events:eu-central-1:123456789012:event-bus/mail",
      "arn:aws:events:eu-west-1:210987654321:event-bus/mail",
    ]
  }

  assert {
    condition     = [for one in aws_cloudwatch_event_archive.events : one.event_source_arn] == ["arn:aws:events:eu-west-1:123456789012:event-bus/mail"]
    error_message = "Only a bus of this account and region can have an archive here."
  }

  assert {
    condition     = alltrue([for one in aws_cloudwatch_event_archive.events : one.retention_days == 14 && length(one.name) <= 48])
    error_message = "It keeps events for 14 days, under a name of at most 48 characters."
  }
}
