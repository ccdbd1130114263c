locals {
  access     = jsondecode(file("${var.build}/access.json"))
  deployment = jsondecode(file("${var.build}/deployment.json"))

  networked = contains(["external", "internal", "worker-pool"], var.listener)
  # In a network that is made. One that exists has its own way out, or is given one by nat = true.
  nat = coalesce(var.nat, var.network == null && local.deployment.nat)

  apis = [
    "artifactregistry", "cloudbuild", "cloudfunctions", "cloudresourcemanager", "cloudscheduler", "compute", "iam",
    "logging", "monitoring", "pubsub", "run", "secretmanager", "storage",
  ]
}

resource "google_project_service" "apis" {
  for_each = var.enable_apis ? toset(local.apis) : toset([])

  project            = var.project
  service            = "${each.value}.googleapis.com"
  disable_on_destroy = false
}

# An API that was just enabled refuses calls for a minute or two.
resource "time_sleep" "apis" {
  count = var.enable_apis ? 1 : 0

  create_duration = "120s"
  depends_on      = [google_project_service.apis]
}

module "spool" {
  source = "./modules/spool"

  project   = var.project
  region    = var.region
  name      = var.name
  prefix    = var.prefix
  ephemeral = var.ephemeral
  kms_key   = var.kms_key
  labels    = var.labels

  depends_on = [time_sleep.apis]
}

module "delivery" {
  source = "./modules/delivery"

  project               = var.project
  region                = var.region
  name                  = var.name
  bucket                = module.spool.bucket
  prefix                = var.prefix
  topic                 = module.spool.topic
  source_zip            = "${local.build}/function.zip"
  runtime               = var.runtime
  threads               = local.deployment.threads
  max_instances         = coalesce(var.max_instances, local.deployment.max_instances)
  memory_mib            = var.function_memory
  timeout               = var.function_timeout
  connector             = var.function_connector
  all_traffic           = var.function_all_traffic
  buckets               = local.access.buckets
  topics                = local.access.topics
  secrets               = local.access.secrets.function
  ephemeral             = var.ephemeral
  notification_channels = var.notification_channels
  labels                = var.labels

  depends_on = [time_sleep.apis]
}

module "network" {
  source = "./modules/network"
  count  = local.networked ? 1 : 0

  project    = var.project
  region     = var.region
  name       = var.name
  network    = var.network
  subnetwork = var.subnetwork
  cidr       = var.network_cidr
  private    = var.listener != "external"
  nat        = local.nat

  depends_on = [time_sleep.apis]
}

module "listener" {
  source = "./modules/listener"
  count  = var.listener == "none" ? 0 : 1

  project               = var.project
  region                = var.region
  name                  = var.name
  kind                  = var.listener
  public                = local.deployment.public
  image                 = var.image
  config                = file("${var.build}/relay.json")
  bucket                = module.spool.bucket
  prefix                = var.prefix
  secrets               = local.access.secrets.listener
  listeners             = var.listeners
  network               = one(module.network[*].network)
  subnetwork            = one(module.network[*].subnetwork)
  clients               = var.clients
  machine_type          = var.machine_type
  machine_image         = var.machine_image
  size                  = var.size
  memory                = var.listener_memory
  application           = var.application
  notification_channels = var.notification_channels
  quiet_hours           = var.quiet_hours
  labels                = var.labels

  # Mail that is spooled before the function exists waits for the sweep. Alerts of both wait at the same time.
  depends_on = [module.delivery.subscription]
}
