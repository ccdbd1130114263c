variable "name" {
  description = "The prefix of names."
  type        = string
}

variable "cidr" {
  description = "The network's addresses."
  type        = string
  default     = "10.0.0.0/16"
}
