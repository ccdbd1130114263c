variable "build" {
  description = "The folder that `python -m infra.bundle.aws CONFIG --out FOLDER` made: function.zip, deployment.json and policies."
  type        = string
}

variable "image" {
  description = "The listener's image, with its tag or digest; it must have been built for arm64."
  type        = string
}

variable "name" {
  description = "The prefix of all names."
  type        = string
  default     = "smtp-relay"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,16}[a-z0-9]$", var.name))
    error_message = "Lower-case letters, digits and hyphens, 3 to 18 of them, because target groups take no more."
  }
}

variable "vpc_id" {
  description = "An existing network; null makes one with public subnets in two zones, without NAT."
  type        = string
  default     = null
}

variable "balancer_subnet_ids" {
  description = "Subnets of that network for the load balancer: public ones if strangers reach it."
  type        = list(string)
  default     = []
}

variable "task_subnet_ids" {
  description = "Subnets of that network for the tasks; private ones need endpoints (ECR api and dkr, logs, secretsmanager) or NAT."
  type        = list(string)
  default     = []
}

variable "assign_public_ip" {
  description = "True if tasks get public addresses, which they need in public subnets; always true with a network of this module's own."
  type        = bool
  default     = false
}

variable "clients" {
  description = "Networks (CIDR) that reach the load balancer; null for all if it is public, else for all blocks of the network."
  type        = list(string)
  default     = null

  validation {
    condition     = var.clients == null || alltrue([for one in coalesce(var.clients, []) : can(cidrnetmask(one))])
    error_message = "IPv4 networks, like 10.0.0.0/8."
  }
}

variable "network_cidr" {
  description = "The addresses of the network that is made without vpc_id."
  type        = string
  default     = "10.0.0.0/16"
}

variable "eips" {
  description = "Allocation ids of Elastic IPs for a public load balancer, one for each of its subnets: for clients that allow-list addresses."
  type        = list(string)
  default     = []
}

variable "zone_id" {
  description = "A hosted zone: mx.ZONE becomes the load balancer, and a public one gets the zone's MX record; null for none."
  type        = string
  default     = null
}

variable "cpu" {
  description = "Units of CPU of a listener's task; 1,024 are one core."
  type        = number
  default     = 256
}

variable "memory" {
  description = "MiB of memory of a listener's task."
  type        = number
  default     = 512
}

variable "least" {
  description = "The least number of the listener's tasks."
  type        = number
  default     = 2
}

variable "most" {
  description = "The largest number of the listener's tasks."
  type        = number
  default     = 10
}

variable "function_memory" {
  description = "MB of the function's memory."
  type        = number
  default     = 1024
}

variable "function_timeout" {
  description = "Seconds that a run of the function may take."
  type        = number
  default     = 120

  validation {
    condition     = var.function_timeout >= 60 && var.function_timeout <= 900
    error_message = "From 60 to 900 seconds."
  }
}

variable "function_subnet_ids" {
  description = "Subnets of the network for the function: for a smarthost that only they reach, or that admits their NAT's address. They need NAT or endpoints for S3, SQS and DynamoDB."
  type        = list(string)
  default     = []
}

variable "certificate_arn" {
  description = "An exportable certificate of ACM, in this region: its renewals are stored in the secret that the configuration names as cert; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn == null || can(regex("^arn:[a-z-]+:acm:[a-z0-9-]+:[0-9]{12}:certificate/[0-9a-f-]+$", var.certificate_arn))
    error_message = "The ARN of a certificate: arn:aws:acm:REGION:ACCOUNT:certificate/ID."
  }
}

variable "queries" {
  description = "True if there are saved queries that find one mail."
  type        = bool
  default     = true
}

variable "quiet_hours" {
  description = "Hours without an accepted mail that raise an alarm, 0 for none."
  type        = number
  default     = 24
}

variable "autoscaling" {
  description = "True if busy tasks get further tasks beside them (least to most, at half of their CPU); otherwise a new service has the least number, and `aws ecs update-service --desired-count` changes it."
  type        = bool
  default     = true
}

variable "alarms" {
  description = "True if there are alarms."
  type        = bool
  default     = true
}

variable "alarm_topic_arn" {
  description = "The SNS topic that alarms go to; null for none."
  type        = string
  default     = null
}

variable "ephemeral" {
  description = "True if destroying may delete unfinished mail: for tests. Otherwise a bucket that holds objects is not destroyed."
  type        = bool
  default     = false
}

variable "environment" {
  description = "More variables for the function."
  type        = map(string)
  default     = {}
}
