variable "name" {
  description = "The prefix of names."
  type        = string
}

variable "place" {
  description = "Partition, region and account."
  type = object({
    partition = string
    region    = string
    account   = string
  })
}

variable "bucket" {
  description = "The spool's bucket."
  type        = string
}

variable "bucket_arn" {
  description = "The ARN of the spool's bucket."
  type        = string
}

variable "prefix" {
  description = "The prefix of the spool's keys: empty, or a path that ends in a slash."
  type        = string
  default     = ""
}

variable "key_arn" {
  description = "The KMS key of the spool, null for none."
  type        = string
  default     = null
}

variable "policy" {
  description = "The template of the task role's policy."
  type        = string
}

variable "limits" {
  description = "True if a filter counts recipients: then there is a table for the counts."
  type        = bool
  default     = false
}

variable "image" {
  description = "The listener's image, built for arm64."
  type        = string
}

variable "config" {
  description = "The configuration as JSON."
  type        = string
}

variable "listeners" {
  description = "The container's listeners, as JSON."
  type        = string
}

variable "ports" {
  description = "Ports of the load balancer and of the container behind it, by the listener's name."
  type = map(object({
    outside = number
    inside  = number
  }))
}

variable "public" {
  description = "True if strangers reach the load balancer."
  type        = bool
}

variable "certificate" {
  description = "True if the configuration names a certificate: then there is an alarm on its end."
  type        = bool
  default     = false
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "vpc_cidrs" {
  description = "All blocks of the network's addresses."
  type        = list(string)
}

variable "clients" {
  description = "Networks (CIDR) that reach the load balancer; null for all if it is public, else for the network's own blocks."
  type        = list(string)
  default     = null
}

variable "eips" {
  description = "Allocation ids of Elastic IPs for a public load balancer, one for each of its subnets."
  type        = list(string)
  default     = []
}

variable "cpu" {
  description = "Units of CPU of a task; 1,024 are one core."
  type        = number
  default     = 256
}

variable "memory" {
  description = "MiB of memory of a task."
  type        = number
  default     = 512
}

variable "least" {
  description = "The least number of tasks."
  type        = number
  default     = 2
}

variable "most" {
  description = "The largest number of tasks."
  type        = number
  default     = 10
}

variable "quiet_hours" {
  description = "Hours without an accepted mail that raise an alarm, 0 for none."
  type        = number
  default     = 24

  validation {
    condition     = var.quiet_hours >= 0 && var.quiet_hours <= 24
    error_message = "From 0 to 24, because an alarm looks back a day at most."
  }
}

variable "balancer_subnet_ids" {
  description = "Subnets of the load balancer."
  type        = list(string)
}

variable "task_subnet_ids" {
  description = "Subnets of the tasks."
  type        = list(string)
}

variable "assign_public_ip" {
  description = "True if tasks get public addresses."
  type        = bool
  default     = false
}

variable "autoscaling" {
  description = "True if busy tasks get further tasks beside them."
  type        = bool
  default     = true
}

variable "before" {
  description = "What is deployed before the tasks: the function, and the secret's certificate; null for none."
  type        = list(string)
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
