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

variable "autoscaling" {
  description = "True if busy tasks get further tasks beside them (2 to 10 at half of their CPU); otherwise there are two."
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
