# Everything that one configuration needs: see docs/aws.md.

data "aws_partition" "here" {}
data "aws_region" "here" {}
data "aws_caller_identity" "here" {}

locals {
  deployment = jsondecode(file("${var.build}/deployment.json"))
  own        = var.vpc_id == null
  place = {
    partition = data.aws_partition.here.partition
    region    = data.aws_region.here.name
    account   = data.aws_caller_identity.here.account_id
  }
}

data "aws_vpc" "given" {
  count = local.own ? 0 : 1
  id    = var.vpc_id
}

module "network" {
  source = "./modules/network"
  count  = local.own ? 1 : 0

  name = var.name
  cidr = var.network_cidr
}

module "spool" {
  source = "./modules/spool"

  name            = var.name
  prefix          = local.deployment.prefix
  kms             = local.deployment.kms
  kms_key_id      = local.deployment.kms_key_id
  bucket_key      = local.deployment.bucket_key
  ephemeral       = var.ephemeral
  writer_role_arn = module.listener.role_arn
}

module "delivery" {
  source = "./modules/delivery"

  name            = var.name
  place           = local.place
  bucket          = module.spool.bucket
  bucket_arn      = module.spool.bucket_arn
  prefix          = local.deployment.prefix
  key_arn         = module.spool.key_arn
  archive         = "${local.build}/function.zip"
  policy          = "${var.build}/function.policy.json.tftpl"
  runtime         = local.deployment.runtime
  architecture    = local.deployment.architecture
  receipts        = local.deployment.receipts
  buses           = local.deployment.buses
  concurrency     = local.deployment.concurrency
  ses             = local.deployment.ses_concurrency != null
  memory          = var.function_memory
  timeout         = var.function_timeout
  vpc_id          = local.own ? module.network[0].vpc_id : var.vpc_id
  subnet_ids      = var.function_subnet_ids
  environment     = var.environment
  ephemeral       = var.ephemeral
  alarms          = var.alarms
  alarm_topic_arn = var.alarm_topic_arn
}

module "certificate" {
  source = "./modules/certificate"
  count  = var.certificate_arn == null ? 0 : 1

  name            = var.name
  place           = local.place
  certificate_arn = var.certificate_arn
  # settings.tf refuses a configuration that names none.
  secret      = coalesce(local.deployment.certificate_secret, "none")
  archive     = "${var.build}/certificate.zip"
  runtime     = local.deployment.runtime
  environment = var.environment
}

module "listener" {
  source = "./modules/listener"

  name                = var.name
  place               = local.place
  bucket              = module.spool.bucket
  bucket_arn          = module.spool.bucket_arn
  prefix              = local.deployment.prefix
  key_arn             = module.spool.key_arn
  policy              = "${var.build}/listener.policy.json.tftpl"
  limits              = local.deployment.limits
  image               = var.image
  config              = local.deployment.listener_config
  listeners           = local.deployment.listeners
  ports               = local.deployment.ports
  public              = local.deployment.public
  certificate         = local.deployment.certificate
  vpc_id              = local.own ? module.network[0].vpc_id : var.vpc_id
  vpc_cidrs           = local.own ? [] : data.aws_vpc.given[0].cidr_block_associations[*].cidr_block
  clients             = var.clients
  eips                = var.eips
  cpu                 = var.cpu
  memory              = var.memory
  least               = var.least
  most                = var.most
  quiet_hours         = var.quiet_hours
  balancer_subnet_ids = local.own ? module.network[0].subnet_ids : var.balancer_subnet_ids
  task_subnet_ids     = local.own ? module.network[0].subnet_ids : var.task_subnet_ids
  assign_public_ip    = local.own || var.assign_public_ip
  autoscaling         = var.autoscaling
  alarms              = var.alarms
  alarm_topic_arn     = var.alarm_topic_arn
  # The function knows new flows and outputs before the listener writes mails that name them, and the secret
  # holds a certificate before the listener reads it.
  before = [module.delivery.function_arn, one(module.certificate[*].stored)]
}
