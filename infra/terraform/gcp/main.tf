locals {
  access = jsondecode(file("${var.build}/access.json"))
}

module "spool" {
  source = "./modules/spool"

  project   = var.project
  region    = var.region
  name      = var.name
  prefix    = var.prefix
  ephemeral = var.ephemeral
}

module "delivery" {
  source = "./modules/delivery"

  project               = var.project
  region                = var.region
  name                  = var.name
  bucket                = module.spool.bucket
  prefix                = var.prefix
  topic                 = module.spool.topic
  source_zip            = "${var.build}/function.zip"
  buckets               = local.access.buckets
  topics                = local.access.topics
  secrets               = local.access.secrets.function
  ephemeral             = var.ephemeral
  notification_channels = var.notification_channels
}

module "listener" {
  source = "./modules/listener"
  count  = var.listener == "none" ? 0 : 1

  project               = var.project
  region                = var.region
  name                  = var.name
  kind                  = var.listener
  image                 = var.image
  config                = file("${var.build}/relay.json")
  bucket                = module.spool.bucket
  prefix                = var.prefix
  secrets               = local.access.secrets.listener
  listeners             = var.listeners
  network               = var.network
  subnetwork            = var.subnetwork
  clients               = var.clients
  application           = var.application
  notification_channels = var.notification_channels

  # Mail that is spooled before the function exists waits for the sweep.
  depends_on = [module.delivery]
}
