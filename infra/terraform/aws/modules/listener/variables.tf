variable "name" {
  description = "What names begin with."
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
  description = "What the spool's keys begin with: empty, or a path that ends in a slash."
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

variable "image" {
  description = "The listener's image, built for arm64."
  type        = string
}

variable "config" {
  description = "The configuration as JSON."
  type        = string
}

variable "listeners" {
  description = "What the container listens on, as JSON."
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
  description = "Whether strangers reach the load balancer."
  type        = bool
}

variable "certificate" {
  description = "Whether the configuration names a certificate: then there is an alarm on its end."
  type        = bool
  default     = false
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "vpc_cidr" {
  description = "The network's addresses: the balancer's, which may say whom it speaks for."
  type        = string
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
  description = "Whether tasks get public addresses."
  type        = bool
  default     = false
}

variable "autoscaling" {
  description = "Whether tasks are added when they are busy."
  type        = bool
  default     = true
}

variable "function" {
  description = "The function, which is deployed before the tasks."
  type        = string
}

variable "alarms" {
  description = "Whether there are alarms."
  type        = bool
  default     = true
}

variable "alarm_topic_arn" {
  description = "The SNS topic that alarms go to; null for none."
  type        = string
  default     = null
}
